"""What became of the stored trainings that the spectrum of their data says are dead.

python -m tests.benchmarks.verdicts.foretold --root FOLDER_OF_FASHION_MNIST
"""

import argparse
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tests.benchmarks.verdicts.histories import Label, Run, load
from tests.benchmarks.verdicts.make_histories import EDGE, PLANS, WILD, Plan, fashion_mnist
from tune_vae.data import Splits, scale
from tune_vae.data.datasets.digits import Digits
from tune_vae.science.collapse_point import EXAMPLES, collapse_points
from tune_vae.science.units import beta_from_norm

FACTORS = (0.75, 1.0, 1.5, 2.0)
PLAN_OF = {plan.name: plan for plan in (*PLANS, *WILD, *EDGE)}


@dataclass(frozen=True)
class Ratio:
    """A training and its KL weight in units of the collapse point of its data and decoder."""

    run: Run
    decoder: str
    ratio: float

    @property
    def label(self) -> Label:
        return self.run.label


def ratios(runs: Sequence[Run], data: Mapping[str, Splits]) -> list[Ratio]:
    """Of the runs on these data whose decoder has a collapse point."""
    points = {}
    for name, splits in data.items():
        spread = splits.train[:: math.ceil(len(splits.train) / EXAMPLES)]
        points[name] = collapse_points(scale(spread, splits.levels))
    found = []
    for run in runs:
        plan = PLAN_OF[run.name.rpartition(" ")[0]]
        if plan.data not in data:
            continue
        point = points[plan.data].beta(plan.likelihood, plan.sigma)
        if point is not None:
            beta = beta_from_norm(
                run.beta_norm, values=data[plan.data].values, latents=plan.latents
            )
            found.append(Ratio(run, _decoder(plan), beta / point))
    return found


def _decoder(plan: Plan) -> str:
    parts = (plan.likelihood, plan.sigma)
    return f"{plan.data} " + "·".join(type(part).__name__.lower() for part in parts if part)


def table(found: Sequence[Ratio]) -> Iterator[str]:
    """Lines of Markdown: by decoder, how the runs beyond each factor ended."""
    yield f"| decoder | {' | '.join(f'above {factor:g}' for factor in FACTORS)} |"
    yield "|---|" + "---|" * len(FACTORS)
    for decoder in (*sorted({one.decoder for one in found}), "all"):
        runs = [one for one in found if decoder in (one.decoder, "all")]
        cells = (_cell([one for one in runs if one.ratio > factor]) for factor in FACTORS)
        yield f"| {decoder} ({len(runs)}) | {' | '.join(cells)} |"


def _cell(beyond: Sequence[Ratio]) -> str:
    labels = [one.label for one in beyond]
    dead, healthy, marginal = map(labels.count, ("collapsed", "healthy", "marginal"))
    return f"{healthy} / {marginal} / {dead} / {len(labels) - dead - healthy - marginal}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", required=True, help="folder of the files of Fashion-MNIST")
    data = {"digits": Digits().load(), "fashion": fashion_mnist(parser.parse_args().root)}
    found = ratios(load(), data)
    print("\n".join(table(found)))
    living = max(one.ratio for one in found if one.label in ("healthy", "marginal"))
    print(f"\nThe last one alive lies at {living:.2f} times its collapse point.")


if __name__ == "__main__":
    main()
