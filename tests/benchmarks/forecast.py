"""What the forecast says of trainings before they are run, against what they came to.

python -m tests.benchmarks.forecast                       # the tables, from the stored trainings
python -m tests.benchmarks.forecast --run --root FOLDER   # first train those that are missing
"""

import argparse
import json
import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from tune_vae.data import Splits, scale
from tune_vae.data.datasets.digits import Digits
from tune_vae.data.datasets.fashion_mnist import FashionMnist
from tune_vae.science.collapse_point import EXAMPLES, collapse_points
from tune_vae.science.forecast import LinearForecast, Outlook
from tune_vae.science.likelihoods.gaussian import Gaussian
from tune_vae.science.networks import Network
from tune_vae.science.networks.conv import Conv
from tune_vae.science.networks.mlp import Mlp
from tune_vae.science.schedules.constant import Constant
from tune_vae.science.sigmas import Sigma
from tune_vae.science.sigmas.fixed import Fixed
from tune_vae.science.sigmas.optimal import Optimal
from tune_vae.science.sigmas.shared import Shared
from tune_vae.science.spectrum import spectrum
from tune_vae.training.trainer import Member, Trainer

FILE = Path(__file__).with_name("forecast.jsonl")
RATIOS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.33, 0.5, 0.67, 0.8, 0.95, 1.1, 1.5, 2.0)
"""KL weights in units of the collapse point; all of one decoder are trained as one pack."""
DEAD_NATS = 0.1
"""The rate below which the verdicts call a trial collapsed."""
USED_NATS = 0.01


@dataclass(frozen=True)
class Plan:
    """Trainings on one data set with one network.

    Arguments:
        data, network: Names.
        latents, epochs, batch_size: Of each training.
    """

    data: str
    network: str
    latents: int
    epochs: int
    batch_size: int = 64


PLANS = (
    Plan("digits", "mlp", latents=8, epochs=100),
    Plan("digits", "conv", latents=8, epochs=100),
    Plan("fashion", "mlp", latents=16, epochs=12),
    Plan("fashion", "conv", latents=16, epochs=12),
)
NETWORKS: dict[tuple[str, str], Network] = {
    ("digits", "mlp"): Mlp(hidden=(128, 128)),
    ("digits", "conv"): Conv(channels=(16, 32)),
    ("fashion", "mlp"): Mlp(hidden=(256,)),
    ("fashion", "conv"): Conv(channels=(8, 16)),
}
SIGMAS: dict[str, Sigma] = {"fixed": Fixed(0.3), "shared": Shared(), "optimal": Optimal()}


@dataclass(frozen=True)
class Measured:
    """A training at its end, on validation images."""

    data: str
    network: str
    sigma: str
    ratio: float
    rate_nats: float
    mse: float
    used: int
    bits: float
    scale: float

    @property
    def pack(self) -> tuple[str, str, str]:
        return self.data, self.network, self.sigma

    @property
    def alive(self) -> bool:
        return self.rate_nats >= DEAD_NATS


@dataclass(frozen=True)
class Known:
    """What a forecast needs of a data set."""

    splits: Splits
    linear: LinearForecast

    @classmethod
    def of(cls, splits: Splits, latents: int) -> "Known":
        x = scale(splits.train, splits.levels)
        edge = float(((x == 0) | (x == 1)).double().mean())
        return cls(
            splits, LinearForecast(spectrum(x.split(1000), 64), latents, splits.levels, edge)
        )

    def collapse(self, sigma: Sigma) -> float:
        stride = math.ceil(len(self.splits.train) / EXAMPLES)
        points = collapse_points(scale(self.splits.train[::stride], self.splits.levels))
        beta = points.beta(Gaussian(), sigma)
        assert beta is not None
        return beta


def trained(plan: Plan, sigma: str, known: Known) -> list[Measured]:
    """One pack, to its end."""
    collapse = known.collapse(SIGMAS[sigma])
    members = [
        Member(
            trial=k,
            seed=k,
            network=NETWORKS[plan.data, plan.network],
            latent_dim=plan.latents,
            likelihood=Gaussian(),
            sigma=SIGMAS[sigma],
            schedule=Constant(),
            beta=ratio * collapse,
            lr=2e-3,
            weight_decay=0.0,
            grad_clip=math.inf,
            epochs=plan.epochs,
            batch_size=plan.batch_size,
        )
        for k, ratio in enumerate(RATIOS)
    ]
    for reports in Trainer(members, known.splits):
        last = reports
    return [
        Measured(
            data=plan.data,
            network=plan.network,
            sigma=sigma,
            ratio=ratio,
            rate_nats=report.rate_nats,
            mse=report.mse,
            used=sum(rate > USED_NATS for rate in report.rate_per_latent_nats),
            bits=report.bits_per_dim_calibrated,
            scale=report.sigma,
        )
        for ratio, report in zip(RATIOS, last, strict=True)
    ]


def summary(found: Sequence[Measured], known: dict[str, Known]) -> Iterator[str]:
    """Lines of Markdown: of each pack, the errors of the forecast where latents are used."""
    yield (
        "| data | network | sigma | rate | squared error | used latents | bits per dim "
        "| last alive | first dead |"
    )
    yield "|---|---|---|--:|--:|--:|--:|--:|--:|"
    for pack in dict.fromkeys(one.pack for one in found):
        runs = [one for one in found if one.pack == pack]
        told = [(one, _outlook(one, known[one.data])) for one in runs]
        living = [(one, outlook) for one, outlook in told if one.ratio <= 0.67]
        values = known[pack[0]].linear.spectrum.values
        rates = [one.rate_nats / outlook.rate_nats for one, outlook in living]
        errors = [one.mse / (outlook.squared_error / values) for one, outlook in living]
        used = [one.used - outlook.used for one, outlook in living]
        bits = [one.bits - outlook.bits_per_dim for one, outlook in told]
        alive = max(one.ratio for one in runs if one.alive)
        dead = min((one.ratio for one in runs if not one.alive), default=math.inf)
        yield (
            f"| {' | '.join(pack)} | {_span(rates)} | {_span(errors)} "
            f"| {min(used):+d} … {max(used):+d} | {min(bits):+.2f} … {max(bits):+.2f} "
            f"| {alive:g} | {dead:g} |"
        )


def course(found: Sequence[Measured], known: dict[str, Known]) -> Iterator[str]:
    """Lines of Markdown: along the KL weight, forecast and measured, of one pack."""
    yield (
        "| beta in units of the collapse | rate | forecast | squared error per value | forecast "
        "| used | forecast | bits per dim | forecast |"
    )
    yield "|" + "--:|" * 9
    for one in found:
        outlook = _outlook(one, known[one.data])
        error = outlook.squared_error / known[one.data].linear.spectrum.values
        yield (
            f"| {one.ratio:g} | {one.rate_nats:.2f} | {outlook.rate_nats:.2f} | {one.mse:.4f} "
            f"| {error:.4f} | {one.used} | {outlook.used} | {one.bits:.2f} "
            f"| {outlook.bits_per_dim:.2f} |"
        )


def _outlook(one: Measured, known: Known) -> Outlook:
    sigma = SIGMAS[one.sigma]
    fixed = sigma.sigma if isinstance(sigma, Fixed) else None
    return known.linear.at(one.ratio * known.collapse(sigma), fixed)


def _span(ratios: Sequence[float]) -> str:
    return f"{min(ratios):.2f} … {statistics.median(ratios):.2f} … {max(ratios):.2f}"


def load() -> list[Measured]:
    lines = FILE.read_text(encoding="utf-8").splitlines() if FILE.exists() else []
    return [Measured(**json.loads(line)) for line in lines]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", action="store_true", help="train what is missing")
    parser.add_argument("--root", required=True, help="folder of the files of Fashion-MNIST")
    options = parser.parse_args()
    torch.set_num_threads(1)
    splits = {
        "digits": Digits().load(),
        "fashion": FashionMnist(root=options.root, validation=1000, limit=6000).load(),
    }
    known = {plan.data: Known.of(splits[plan.data], plan.latents) for plan in PLANS}
    for plan in PLANS if options.run else ():
        for sigma in SIGMAS:
            if any(one.pack == (plan.data, plan.network, sigma) for one in load()):
                continue
            with FILE.open("a", encoding="utf-8") as out:
                for one in trained(plan, sigma, known[plan.data]):
                    short = {
                        key: float(f"{value:.5g}") if isinstance(value, float) else value
                        for key, value in asdict(one).items()
                    }
                    out.write(json.dumps(short) + "\n")
            print(f"{plan.data} {plan.network} {sigma} done", flush=True)
    found = load()
    print("\n".join(summary(found, known)))
    example = [one for one in found if one.pack == ("digits", "mlp", "optimal")]
    print("\nDigits, mlp, optimal sigma:\n")
    print("\n".join(course(example, known)))


if __name__ == "__main__":
    main()
