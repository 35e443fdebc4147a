"""What the forecast says of trainings before they are run, against what they came to.

The trainings are the stored ones of `tests.benchmarks.verdicts`: those with a Gaussian of one
scale and a learning rate that somebody would ask for. None is run here.

python -m tests.benchmarks.forecast --root FOLDER_OF_FASHION_MNIST
"""

import argparse
import math
import random
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.benchmarks.verdicts.foretold import PLAN_OF
from tests.benchmarks.verdicts.histories import Run, load
from tests.benchmarks.verdicts.make_histories import fashion_mnist
from tune_vae.data import Splits, scale
from tune_vae.data.datasets.digits import Digits
from tune_vae.science.collapse_point import EXAMPLES, CollapsePoints, collapse_points
from tune_vae.science.forecast import LinearForecast, Outlook
from tune_vae.science.likelihoods.gaussian import Gaussian
from tune_vae.science.sigmas.fixed import Fixed
from tune_vae.science.spectrum import Spectrum, spectrum
from tune_vae.science.units import beta_from_norm
from tune_vae.service.study_forecast import LEAST, MOST

TRIALS = 15
USUAL_LR = (3e-4, 1e-2)
DEAD_NATS = 0.1
"""The rate below which the verdicts call a trial collapsed."""
COURSE = (0.001, 0.67)
"""KL weights in units of the collapse point, between which rate and error are compared: below,
the first lie beyond what so short a training reaches."""


@dataclass(frozen=True)
class Known:
    """What a forecast needs of a data set."""

    spectrum: Spectrum
    points: CollapsePoints
    edge: float
    levels: int | None

    @classmethod
    def of(cls, splits: Splits) -> "Known":
        x = scale(splits.train, splits.levels)
        batches = (x[start : start + 1000] for start in range(0, len(x), 1000))
        return cls(
            spectrum(batches, 64),
            collapse_points(x[:: math.ceil(len(x) / EXAMPLES)]),
            float(((x == 0) | (x == 1)).double().mean()),
            splits.levels,
        )


@dataclass(frozen=True)
class Compared:
    """A training and its forecast; `ratio` is its KL weight in units of the collapse point."""

    run: Run
    kind: tuple[str, str, str]
    ratio: float
    forecast: Outlook
    bounds: tuple[float, float]

    @property
    def alive(self) -> bool:
        return self.run.history.last.rate_nats >= DEAD_NATS

    @property
    def error_ratio(self) -> float:
        values = self.run.history.values
        return self.run.history.last.mse / (self.forecast.squared_error / values)


def compared(known: dict[str, Known]) -> list[Compared]:
    """The stored trainings of which there is a forecast, by falling share of life."""
    found = []
    for run in load():
        plan = PLAN_OF[run.name.rpartition(" ")[0]]
        usual = USUAL_LR[0] <= run.lr <= USUAL_LR[1] and plan.drawn != "wild"
        if not (usual and run.history.last.finite and isinstance(plan.likelihood, Gaussian)):
            continue
        facts = known[plan.data]
        point = facts.points.beta(plan.likelihood, plan.sigma)
        if point is None:
            continue
        beta = beta_from_norm(run.beta_norm, values=run.history.values, latents=plan.latents)
        linear = LinearForecast(facts.spectrum, plan.latents, facts.levels, facts.edge)
        fixed = plan.sigma.sigma if isinstance(plan.sigma, Fixed) else None
        names = (type(part).__name__.lower() for part in (plan.network, plan.sigma))
        data, network, sigma = (plan.data, *names)
        norm = run.beta_norm / beta
        calibrated = 1.0 if fixed is None else linear.beta(linear.at(1.0), fixed)
        found.append(
            Compared(
                run,
                (data, network, sigma),
                beta / point,
                linear.at(beta, fixed),
                (LEAST * calibrated * norm, MOST * point * norm),
            )
        )
    return sorted(found, key=lambda one: (one.kind, one.ratio))


def summary(found: Sequence[Compared]) -> Iterator[str]:
    """Lines of Markdown: by data, network and sigma mode, measured over forecast."""
    yield (
        "| data | network | sigma | trainings | compared | rate | squared error "
        "| bits per dim, less forecast | last alive | first dead |"
    )
    yield "|---|---|---|--:|--:|--:|--:|--:|--:|--:|"
    for kind in dict.fromkeys(one.kind for one in found):
        mine = [one for one in found if one.kind == kind]
        course = [one for one in mine if COURSE[0] <= one.ratio <= COURSE[1]]
        rates = [one.run.history.last.rate_nats / one.forecast.rate_nats for one in course]
        bits = [
            one.run.history.last.bits_per_dim_calibrated - one.forecast.bits_per_dim
            for one in course
        ]
        alive = max(one.ratio for one in mine if one.alive)
        dead = min(one.ratio for one in mine if not one.alive)
        yield (
            f"| {' | '.join(kind)} | {len(mine)} | {len(course)} | {spread(rates)} "
            f"| {spread([one.error_ratio for one in course])} | {spread(bits)} "
            f"| {alive:.2f} | {dead:.2f} |"
        )


def spread(values: Sequence[float]) -> str:
    """Median, and the least and the greatest."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} … {max(values):.2f})"


def contradictions(found: Sequence[Compared], factor: float = 1.5) -> Iterator[str]:
    """What ended otherwise than forecast, by more than a factor in the KL weight."""
    beyond = [one for one in found if one.ratio > factor]
    below = [one for one in found if one.ratio < 1 / factor]
    yield f"{sum(one.alive for one in beyond)} of {len(beyond)} above {factor:g} times are alive."
    silent = [one for one in below if not one.alive]
    yield f"{len(silent)} of {len(below)} below 1/{factor:g} times are silent:"
    for one in silent:
        sigma, run = one.run.history.last.sigma, one.run
        yield (
            f"- {' '.join(one.kind)}, {run.schedule}, lr {run.lr:.1e}, at {one.ratio:.2f}: its "
            f"sigma ended at {sigma:.2f}, forecast {one.forecast.sigma:.2f}"
        )


def searches(found: Sequence[Compared], *, seeds: int = 2000) -> Iterator[str]:
    """Lines of Markdown: random searches that draw from the stored trainings on digits.

    Their beta_norm was drawn from six decades, 1e-4 to 100; those within the proposed bounds are
    what `auto` would have drawn.
    """
    wide = [one for one in found if one.kind[0] == "digits" and " edge" not in one.run.name]
    low, high = (f(one.bounds[end] for one in wide) for end, f in ((0, min), (1, max)))
    auto = [one for one in wide if low <= one.run.beta_norm <= high]
    yield f"Digits, random search of {TRIALS} trials, {seeds} times; auto: {low:.2g} … {high:.2g}"
    yield ""
    yield "| beta_norm | trainings | collapsed | best after a third | best at the end |"
    yield "|---|--:|--:|--:|--:|"
    for name, pool in (("1e-4 … 100", wide), ("auto", auto)):
        dice = random.Random(0)
        drawn = [dice.choices(pool, k=TRIALS) for _ in range(seeds)]
        bests = [
            statistics.fmean(min(map(_bits, trials[:end])) for trials in drawn)
            for end in (TRIALS // 3, TRIALS)
        ]
        dead = sum(not one.alive for one in pool) / len(pool)
        yield f"| {name} | {len(pool)} | {dead:.0%} | {bests[0]:.3f} | {bests[1]:.3f} |"


def _bits(one: Compared) -> float:
    return one.run.history.last.bits_per_dim_calibrated


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", required=True, help="folder of the files of Fashion-MNIST")
    data = {"digits": Digits().load(), "fashion": fashion_mnist(parser.parse_args().root)}
    found = compared({name: Known.of(splits) for name, splits in data.items()})
    print("\n".join([*summary(found), "", *contradictions(found), "", *searches(found)]))


if __name__ == "__main__":
    main()
