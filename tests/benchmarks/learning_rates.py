"""Which learning rate of Adam what is known to be good should begin with.

    python -m tests.benchmarks.learning_rates [--root FOLDER_OF_FASHION_MNIST]

A Gaussian at beta 1, with a sigma that is optimal or learned, at each of the learning rates: on
the digits for 300, 600 and 1,200 steps, and on 20,000 images of Fashion-MNIST for 1,560. The
lowest bits per dim of any epoch, one seed.
"""

import argparse
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from tune_vae.data import Splits
from tune_vae.data.datasets.digits import Digits
from tune_vae.data.datasets.fashion_mnist import FashionMnist
from tune_vae.science.likelihoods.gaussian import Gaussian
from tune_vae.science.networks.mlp import Mlp
from tune_vae.science.schedules import Schedule
from tune_vae.science.schedules.constant import Constant
from tune_vae.science.schedules.linear import Linear
from tune_vae.science.sigmas import Sigma
from tune_vae.science.sigmas.optimal import Optimal
from tune_vae.science.sigmas.shared import Shared
from tune_vae.training.trainer import Member, Trainer

RATES = (5e-4, 1e-3, 2e-3, 3e-3, 6e-3, 1e-2, 2e-2)
SIGMAS: tuple[Sigma, ...] = (Optimal(), Shared())
SCHEDULES: tuple[Schedule, ...] = (Constant(), Linear(warmup=0.2))


def best_bits(
    data: Splits, network: Mlp, latents: int, sigma: Sigma, schedule: Schedule, epochs: int
) -> list[float]:
    """Of each learning rate; all are one pack."""
    best = dict.fromkeys(range(len(RATES)), math.inf)
    members = [
        Member(
            trial=k,
            seed=0,
            network=network,
            latent_dim=latents,
            likelihood=Gaussian(),
            sigma=sigma,
            schedule=schedule,
            beta=1.0,
            lr=lr,
            weight_decay=0.0,
            grad_clip=math.inf,
            epochs=epochs,
            batch_size=64,
        )
        for k, lr in enumerate(RATES)
    ]
    for reports in Trainer(members, data):
        for report in reports:
            if math.isfinite(report.bits_per_dim):
                best[report.trial] = min(best[report.trial], report.bits_per_dim)
    return list(best.values())


def rows(name: str, data: Splits, network: Mlp, latents: int, lengths: list[int]) -> Iterator[str]:
    for epochs in lengths:
        for sigma in SIGMAS:
            for schedule in SCHEDULES:
                bits = best_bits(data, network, latents, sigma, schedule, epochs)
                least = min(bits)
                told = " | ".join(f"**{b:.3f}**" if b == least else f"{b:.3f}" for b in bits)
                what = f"{type(sigma).__name__.lower()}, {type(schedule).__name__.lower()}"
                steps = epochs * (len(data.train) // 64)
                yield f"| {name}, {what} | {steps:,} | {told} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path)
    root = parser.parse_args().root
    torch.set_num_threads(1)
    print("| data, sigma, schedule | steps | " + " | ".join(f"{lr:g}" for lr in RATES) + " |")
    print("|---|--:|" + "--:|" * len(RATES))
    for line in rows("digits", Digits().load(), Mlp((128, 128)), 8, [15, 30, 60]):
        print(line, flush=True)
    if root:
        whole = FashionMnist(root=str(root)).load()
        data = replace(
            whole, train=whole.train[:20_000], validation=whole.validation[:1000], labels=None
        )
        for line in rows("Fashion-MNIST", data, Mlp((256, 256)), 16, [5]):
            print(line, flush=True)


if __name__ == "__main__":
    main()
