"""Train the histories of the benchmark: every run to its end, whatever becomes of it.

    python -m tests.benchmarks.verdicts.make_histories --root FOLDER_OF_FASHION_MNIST

Packs that the file already holds are not trained again.
"""

import argparse
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from tests.benchmarks.verdicts.histories import FILE, Run, load, save
from tune_vae.data import Splits
from tune_vae.data.datasets.digits import Digits
from tune_vae.data.datasets.fashion_mnist import FashionMnist
from tune_vae.science.history import History
from tune_vae.science.likelihoods import Likelihood
from tune_vae.science.likelihoods.bernoulli import Bernoulli
from tune_vae.science.likelihoods.continuous_bernoulli import ContinuousBernoulli
from tune_vae.science.likelihoods.discretized_logistic import DiscretizedLogistic
from tune_vae.science.likelihoods.gaussian import Gaussian
from tune_vae.science.likelihoods.laplace import Laplace
from tune_vae.science.networks import Network
from tune_vae.science.networks.conv import Conv
from tune_vae.science.networks.mlp import Mlp
from tune_vae.science.schedules import Schedule
from tune_vae.science.schedules.auto import Auto
from tune_vae.science.schedules.constant import Constant
from tune_vae.science.schedules.cosine import Cosine
from tune_vae.science.schedules.cyclical import Cyclical
from tune_vae.science.schedules.linear import Linear
from tune_vae.science.schedules.sigmoid import Sigmoid
from tune_vae.science.sigmas import Sigma
from tune_vae.science.sigmas.fixed import Fixed
from tune_vae.science.sigmas.optimal import Optimal
from tune_vae.science.sigmas.shared import Shared
from tune_vae.science.units import beta_from_norm
from tune_vae.training.trainer import Member, Trainer

SCHEDULES: dict[str, Schedule] = {
    "constant": Constant(),
    "linear": Linear(warmup=0.4),
    "cyclical": Cyclical(cycles=4, ramp=0.5),
    "sigmoid": Sigmoid(warmup=0.4),
    "cosine": Cosine(warmup=0.3),
    "auto": Auto(steps=200),
}

ABSURD = (1e-6, 0.03, 0.3, 1.0, 10.0)
"""Learning rates that nobody should ask for."""


@dataclass(frozen=True)
class Plan:
    """One pack of the benchmark."""

    data: str
    net: str
    decoder: str
    network: Network
    likelihood: Likelihood
    sigma: Sigma | None
    latents: int
    members: int
    drawn: Literal["wide", "wild", "edge"] = "wide"
    """From where beta_norm and learning rate are drawn: from everywhere, to break the training,
    or near the collapse point, where silent trials may or may not wake."""

    @property
    def name(self) -> str:
        return f"{self.data} {self.net} {self.decoder}"


PLANS = (
    Plan("digits", "mlp64", "gaussian·optimal", Mlp((64,)), Gaussian(), Optimal(), 8, 13),
    Plan("digits", "mlp64", "gaussian·fixed", Mlp((64,)), Gaussian(), Fixed(0.2), 8, 13),
    Plan("digits", "mlp64", "gaussian·shared", Mlp((64,)), Gaussian(), Shared(), 4, 13),
    Plan("digits", "mlp64x64", "cb", Mlp((64, 64)), ContinuousBernoulli(), None, 8, 13),
    Plan("digits", "mlp128x64", "bernoulli", Mlp((128, 64)), Bernoulli(), None, 16, 13),
    Plan("digits", "conv", "gaussian·optimal", Conv((16, 32)), Gaussian(), Optimal(), 8, 13),
    Plan("digits", "conv", "logistic", Conv((16, 32)), DiscretizedLogistic(17), Shared(), 8, 13),
    Plan("digits", "mlp64", "laplace·optimal", Mlp((64,)), Laplace(), Optimal(), 8, 13),
    Plan("fashion", "mlp128", "gaussian·optimal", Mlp((128,)), Gaussian(), Optimal(), 10, 12),
    Plan("fashion", "mlp32", "bernoulli", Mlp((32,)), Bernoulli(), None, 10, 12),
    Plan("fashion", "mlp32", "gaussian·fixed", Mlp((32,)), Gaussian(), Fixed(0.2), 10, 12),
    Plan("fashion", "conv", "cb", Conv((4, 8)), ContinuousBernoulli(), None, 10, 6),
)
WILD = (
    Plan("digits", "wild64", "gaussian·optimal", Mlp((64,)), Gaussian(), Optimal(), 8, 12, "wild"),
    Plan("digits", "wild64", "gaussian·tiny", Mlp((64,)), Gaussian(), Fixed(1e-4), 8, 12, "wild"),
    Plan("digits", "wild64x64", "cb", Mlp((64, 64)), ContinuousBernoulli(), None, 8, 12, "wild"),
    Plan("digits", "absurd64", "gaussian·shared", Mlp((64,)), Gaussian(), Shared(), 8, 12, "wild"),
)
EDGE = (
    Plan("digits", "edge64", "gaussian·shared", Mlp((64,)), Gaussian(), Shared(), 4, 13, "edge"),
    Plan("digits", "edge64", "gaussian·fixed", Mlp((64,)), Gaussian(), Fixed(0.2), 8, 13, "edge"),
    Plan("digits", "edge64x64", "optimal", Mlp((64, 64)), Gaussian(), Optimal(), 8, 13, "edge"),
    Plan("digits", "edge64x64", "bernoulli", Mlp((64, 64)), Bernoulli(), None, 8, 13, "edge"),
)
LENGTHS = {"digits": (60, 64), "fashion": (10, 128)}
"""Epochs and batch size: 1200 and 930 optimiser steps."""


def members(plan: Plan, values: int) -> Iterator[tuple[str, str, float, Member]]:
    """Name, schedule, beta_norm and member of each run; all drawn from the run's name."""
    epochs, batch = LENGTHS[plan.data]
    place = (PLANS + WILD + EDGE).index(plan)
    for number in range(plan.members):
        name = f"{plan.name} {number:02}"
        draw = random.Random(name)
        schedule = list(SCHEDULES)[(number + place) % len(SCHEDULES)]
        beta_norm = 10 ** draw.uniform(-4, 2)
        usual = draw.random() < 0.75
        lr = 10 ** draw.uniform(-3.5, -2) if usual else draw.choice(ABSURD)
        init_scale = 1.0
        if plan.drawn == "edge":
            beta_norm, lr = 10 ** draw.uniform(-1, 0.3), 10 ** draw.uniform(-3.5, -2.5)
        if plan.drawn == "wild":
            most = 30 if plan.net.startswith("absurd") else 4
            lr, init_scale = 10 ** draw.uniform(-3, most), 10 ** draw.uniform(0, 6)
        yield (
            name,
            schedule,
            beta_norm,
            Member(
                trial=number,
                seed=draw.getrandbits(40),
                network=plan.network,
                latent_dim=plan.latents,
                likelihood=plan.likelihood,
                sigma=plan.sigma,
                schedule=SCHEDULES[schedule],
                beta=beta_from_norm(beta_norm, values=values, latents=plan.latents),
                lr=lr,
                weight_decay=0.0,
                grad_clip=math.inf,
                epochs=epochs,
                batch_size=batch,
                init_scale=init_scale,
            ),
        )


def train(plan: Plan, data: Splits) -> Iterator[Run]:
    made = list(members(plan, data.values))
    histories = [
        History(member.epochs, data.values, data.levels, "bits_per_dim_calibrated")
        for *_, member in made
    ]
    for reports in Trainer([member for *_, member in made], data):
        for report in reports:
            histories[report.trial].add(report)
    for (name, schedule, beta_norm, member), history in zip(made, histories, strict=True):
        yield Run(name, schedule, beta_norm, member.lr, history)


def fashion_mnist(root: str) -> Splits:
    """Of Fashion-MNIST, what the runs were trained on."""
    return FashionMnist(root=root, validation=1000, limit=12_000).load()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", required=True, help="folder of the files of Fashion-MNIST")
    parser.add_argument("--out", type=Path, default=FILE)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    runs = load(arguments.out) if arguments.out.exists() else []
    data: dict[str, Splits] = {}
    for plan in sorted(PLANS + WILD + EDGE, key=lambda plan: plan.data):
        if any(run.name.startswith(plan.name) for run in runs):
            continue
        if plan.data not in data:
            digits = plan.data == "digits"
            data[plan.data] = Digits().load() if digits else fashion_mnist(arguments.root)
        runs += train(plan, data[plan.data])
        save(runs, arguments.out)
        print(f"{len(runs):>4} runs: {plan.name}", flush=True)


if __name__ == "__main__":
    main()
