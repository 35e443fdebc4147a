"""Train models that are spoilt on purpose, and keep what an ordinary log would say of them.

    python -m tests.diagnosis.make_curves
    python -m tests.diagnosis.make_curves --seeds 100 105 --out other_seeds.csv
    python -m tests.diagnosis.make_curves --root FOLDER_OF_FASHION_MNIST --out fashion.csv

Each way to spoil a training is drawn anew for each seed: network, latents, rate, how badly.
What the trainer of this project refuses (means for sums, pixels from 0 to 255, log-variances
without a bound) is done by a loop of plain torch.
"""

import argparse
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.diagnosis.curves import FILE, Row, save
from tune_vae.data import Splits, scale
from tune_vae.data.datasets.digits import Digits
from tune_vae.data.datasets.fashion_mnist import FashionMnist
from tune_vae.science.history import EpochReport
from tune_vae.science.likelihoods import Likelihood
from tune_vae.science.likelihoods.bernoulli import Bernoulli
from tune_vae.science.likelihoods.discretized_logistic import DiscretizedLogistic
from tune_vae.science.likelihoods.gaussian import Gaussian
from tune_vae.science.networks.mlp import Mlp
from tune_vae.science.schedules import Schedule
from tune_vae.science.schedules.constant import Constant
from tune_vae.science.schedules.linear import Linear
from tune_vae.science.schedules.sigmoid import Sigmoid
from tune_vae.science.sigmas import Sigma
from tune_vae.science.sigmas.fixed import Fixed
from tune_vae.science.sigmas.optimal import Optimal
from tune_vae.training.trainer import Member, Trainer

Epoch = tuple[float, float, float, float]
"""Training loss, its reconstruction and KL term, and the validation loss, as logged."""

BATCH = 64
MOST_LOGGED = 60
"""Epochs; of longer trainings every second one, or every third, is kept."""


@dataclass(frozen=True)
class House:
    """A training by this project's trainer."""

    likelihood: Likelihood
    sigma: Sigma | None = None
    schedule: Schedule = Constant()  # noqa: RUF009
    beta: float = 1.0
    lr: float = 2e-3
    init_scale: float = 1.0
    epochs: int = 40
    examples: int = 1297
    binary: bool = False

    def run(self, data: Splits, *, hidden: int, latents: int, seed: int) -> Iterator[Epoch]:
        member = Member(
            trial=0,
            seed=seed,
            network=Mlp((hidden,)),
            latent_dim=latents,
            likelihood=self.likelihood,
            sigma=self.sigma,
            schedule=self.schedule,
            beta=self.beta,
            lr=self.lr,
            weight_decay=0.0,
            grad_clip=math.inf,
            epochs=self.epochs,
            batch_size=min(BATCH, self.examples // 2),
            init_scale=self.init_scale,
        )
        few = replace(data, train=data.train[: self.examples], labels=None)
        for (report,) in Trainer([member], _binary(few) if self.binary else few):
            yield _logged(report)
            if report.lost:
                return


def _binary(data: Splits) -> Splits:
    middle = (data.levels or 2) / 2
    parts = {name: getattr(data, name) for name in ("train", "validation", "test")}
    return replace(data, levels=2, **{k: (v >= middle).to(torch.uint8) for k, v in parts.items()})


def _logged(report: EpochReport) -> Epoch:
    recon, kl = report.train_distortion_nats, report.train_rate_nats
    val = report.distortion_nats + report.beta * report.rate_nats
    return recon + report.beta * kl, recon, kl, val


@dataclass(frozen=True)
class Plain:
    """A training as it is often written: a perceptron, squared errors, nothing bounded."""

    mean: bool = False
    factor: float = 1.0
    beta: float = 1.0
    lr: float = 1e-3
    init_scale: float = 1.0
    epochs: int = 40

    def run(self, data: Splits, *, hidden: int, latents: int, seed: int) -> Iterator[Epoch]:
        torch.manual_seed(seed)
        x, val = (
            scale(part, data.levels).flatten(1) * self.factor
            for part in (data.train, data.validation)
        )
        values = x.shape[1]
        encoder = nn.Sequential(
            nn.Linear(values, hidden), nn.ReLU(), nn.Linear(hidden, 2 * latents)
        )
        decoder = nn.Sequential(nn.Linear(latents, hidden), nn.ReLU(), nn.Linear(hidden, values))
        weights = [*encoder.parameters(), *decoder.parameters()]
        with torch.no_grad():
            for weight in weights:
                weight.mul_(self.init_scale if weight.ndim > 1 else 1.0)

        def terms(x: Tensor) -> tuple[Tensor, Tensor]:
            mean, log_variance = encoder(x).chunk(2, 1)
            z = mean + torch.randn_like(mean) * (log_variance / 2).exp()
            kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1).mean()
            if self.mean:
                return F.mse_loss(decoder(z), x), kl
            return 0.5 * F.mse_loss(decoder(z), x, reduction="sum") / len(x), kl

        adam = torch.optim.Adam(weights, lr=self.lr)
        for _ in range(self.epochs):
            seen = []
            for rows in torch.randperm(len(x)).split(BATCH):
                recon, kl = terms(x[rows])
                loss = recon + self.beta * kl
                adam.zero_grad()
                loss.backward()
                adam.step()
                seen.append(torch.stack([loss, recon, kl]).detach())
            with torch.no_grad():
                recon, kl = terms(val)
            loss, recon_mean, kl_mean = torch.stack(seen).mean(0).tolist()
            yield loss, recon_mean, kl_mean, float(recon + self.beta * kl)
            if not math.isfinite(loss):
                return


Way = Callable[[random.Random, int], House | Plain]
"""Draws a training; the second argument is N, the values of an example."""


def _sound(draw: random.Random) -> House:
    return draw.choice(
        [
            House(Gaussian(), Optimal(), lr=10 ** draw.uniform(-3, -2.5)),
            House(DiscretizedLogistic(17), Optimal(), lr=10 ** draw.uniform(-3, -2.5)),
            House(Gaussian(), Fixed(draw.uniform(0.1, 0.2)), lr=10 ** draw.uniform(-3, -2.5)),
        ]
    )


def _too_heavy(draw: random.Random, values: int) -> House | Plain:
    return draw.choice(
        [
            replace(_sound(draw), beta=values * draw.uniform(1, 10)),
            House(Bernoulli(), binary=True, beta=draw.uniform(20, 100)),
            Plain(beta=10 ** draw.uniform(1, 2)),
        ]
    )


def _too_fast(draw: random.Random, values: int) -> House | Plain:
    lr = 10 ** draw.uniform(-0.7, 0.7)
    return draw.choice([replace(_sound(draw), lr=lr), Plain(lr=lr)])


def _wild_start(draw: random.Random, values: int) -> House | Plain:
    init = 10 ** draw.uniform(1.2, 2)
    return draw.choice([replace(_sound(draw), init_scale=init), Plain(init_scale=init)])


WAYS: dict[str, Way] = {
    "healthy": lambda draw, values: _sound(draw),
    "healthy_binary": lambda draw, values: House(
        Bernoulli(), binary=True, lr=10 ** draw.uniform(-3, -2.3)
    ),
    "collapsed": _too_heavy,
    "exploding_lr": _too_fast,
    "exploding_init": _wild_start,
    "exploding_scale": lambda draw, values: Plain(
        factor=255, lr=10 ** draw.uniform(-3.3, -2.3), beta=draw.choice([1.0, 1.0, 4.0])
    ),
    "unregularised": lambda draw, values: House(
        Gaussian(), Fixed(0.1), beta=draw.choice([0.0, 1e-6, 1e-4]), epochs=60
    ),
    "overfitting": lambda draw, values: House(
        Gaussian(), Fixed(0.05), lr=4e-3, examples=draw.choice([40, 60, 80]), epochs=300
    ),
    "underfitting": lambda draw, values: replace(_sound(draw), lr=10 ** draw.uniform(-5, -4.5)),
    "mean": lambda draw, values: Plain(mean=True, lr=10 ** draw.uniform(-3.3, -2.5)),
    "warm_up": lambda draw, values: House(
        Gaussian(),
        Fixed(0.1),
        beta=values * draw.uniform(0.08, 0.3),
        schedule=draw.choice([Linear, Sigmoid])(warmup=draw.uniform(0.5, 0.9)),
        lr=4e-3,
        epochs=60,
    ),
    "improper": lambda draw, values: House(Bernoulli(), lr=10 ** draw.uniform(-3, -2.3)),
    "scale_fixed": lambda draw, values: House(
        Gaussian(), Fixed(1.0), lr=10 ** draw.uniform(-3, -2.5)
    ),
}


def train(way: str, seed: int, data: Splits) -> Iterator[Row]:
    draw = random.Random(f"{way} {seed}")
    training = WAYS[way](draw, data.values)
    hidden, latents = draw.choice([64, 128, 256]), draw.choice([4, 8, 16])
    every = math.ceil(training.epochs / MOST_LOGGED)
    for epoch, logged in enumerate(
        training.run(data, hidden=hidden, latents=latents, seed=draw.getrandbits(32)), 1
    ):
        if epoch == 1 or epoch % every == 0 or not math.isfinite(logged[0]):
            yield Row(way, seed, data.values, latents, training.lr, epoch, *logged)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs=2, default=(0, 3), help="from, and up to")
    parser.add_argument("--root", help="folder of Fashion-MNIST; else the digits")
    parser.add_argument("--out", type=Path, default=FILE)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data = (
        FashionMnist(root=arguments.root, validation=500, limit=1297).load()
        if arguments.root
        else Digits().load()
    )
    rows: list[Row] = []
    for way in WAYS:
        for seed in range(*arguments.seeds):
            rows += train(way, seed, data)
            print(rows[-1], flush=True)
        save(rows, arguments.out)


if __name__ == "__main__":
    main()
