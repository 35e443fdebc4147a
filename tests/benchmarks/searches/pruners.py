"""Which pruner serves best, replayed over stored trainings in many orders; nothing is trained.

python -m tests.benchmarks.searches.pruners

Each row is a search without a sampler: trainings of `tests/benchmarks/verdicts` in random order,
stopped by their verdicts and by the pruner, until a budget of epochs is spent. The orders are the
same for all pruners, so that the differences from the first one are paired.
"""

import math
import random
import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import optuna
from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner

from tests.benchmarks.searches.store import mean_error
from tests.benchmarks.verdicts.histories import Run, load
from tests.benchmarks.verdicts.replay import replay

__all__ = ["Replayed", "pruners", "replayed", "table"]

ORDERS = 60
BUDGETS = (15, 30)
"""In trainings that nobody stops."""


class Replayed(NamedTuple):
    """What a search in one order came to.

    Attributes:
        third, whole: Lowest calibrated bits per dim after a third and after all of the budget.
        trials: Begun.
        regretted: Trials stopped by the pruner that would have beaten the whole search.
    """

    third: float
    whole: float
    trials: int
    regretted: int


def pruners(epochs: int) -> dict[str, Callable[[], BasePruner]]:
    """By the name in the table, for trainings of so many epochs; each made anew."""

    def share(part: int) -> int:
        return math.ceil(epochs / part)

    return {
        "median, from a quarter on": lambda: MedianPruner(5, share(4), n_min_trials=4),
        "none": NopPruner,
        "halving, from a quarter on": lambda: SuccessiveHalvingPruner(share(4), 2),
        "halving, from an eighth on (default)": lambda: SuccessiveHalvingPruner(share(8), 2),
        "halving, from a sixteenth on": lambda: SuccessiveHalvingPruner(share(16), 2),
        "thirds, from an eighth on": lambda: SuccessiveHalvingPruner(share(8), 3),
        "quarters, from an eighth on": lambda: SuccessiveHalvingPruner(share(8), 4),
        "the same, after four trials": lambda: SuccessiveHalvingPruner(share(8), 4, 0, 4),
    }


def replayed(
    runs: Sequence[Run], stops: Sequence[int | None], pruner: BasePruner, budget: int
) -> Replayed:
    """One search.

    Arguments:
        runs: Trainings in the order in which they are tried.
        stops: The epoch at which the verdicts end each, if they do.
        pruner: Asked after each comparable epoch.
        budget: Epochs.
    """
    study = optuna.create_study(pruner=pruner)
    best, bests, stopped = math.inf, [], []
    for run, stop in zip(runs, stops, strict=True):
        trial, values, ends = study.ask(), [], False
        for report in run.history:
            value = report.bits_per_dim_calibrated
            best = min(best, value if math.isfinite(value) else math.inf)
            bests.append(best)
            ends = len(bests) >= budget or stop == report.epoch
            if not ends and report.comparable and math.isfinite(value):
                trial.report(value, report.epoch)
                values.append(value)
                if report.epoch < run.history.epochs and trial.should_prune():
                    stopped.append(run)
                    ends = True
            if ends:
                break
        if ends or not values:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            study.tell(trial, min(values))
        if len(bests) >= budget:
            break
    regretted = sum(
        min(report.bits_per_dim_calibrated for report in run.history) < best for run in stopped
    )
    third = bests[min(budget // 3, len(bests)) - 1]
    return Replayed(third, best, len(study.trials), regretted)


def table(data: str, runs: Sequence[Run]) -> Iterator[str]:
    """Lines of Markdown for the trainings of one data set, all of equal length."""
    epochs = runs[0].history.epochs
    ends = {run.name: replay(run).epoch for run in runs}
    orders = [random.Random(order).sample(list(runs), len(runs)) for order in range(ORDERS)]
    yield (
        f"| {data}, {len(runs)} trainings | budget | trials | best after a third | at the end "
        "| regretted |"
    )
    yield "|---|--:|--:|--:|--:|--:|"
    for trainings in BUDGETS:
        first: list[Replayed] = []
        for name, make in pruners(epochs).items():
            found = [
                replayed(order, [ends[run.name] for run in order], make(), trainings * epochs)
                for order in orders
            ]
            first = first or found
            cells = [f"{statistics.fmean(one.trials for one in found):.0f}"]
            for column in ("third", "whole"):
                gaps = [
                    getattr(one, column) - getattr(other, column)
                    for one, other in zip(found, first, strict=True)
                ]
                mean = statistics.fmean(getattr(one, column) for one in found)
                cells.append(f"{mean:.3f} ({mean_error(gaps, 4)})")
            cells.append(f"{statistics.fmean(one.regretted for one in found):.2f}")
            yield f"| {name} | {trainings * epochs} | {' | '.join(cells)} |"


def _plain(run: Run) -> bool:
    """Whether a training is such as a search may try, with a value that all decoders have."""
    return not any(word in run.name for word in ("wild", "absurd", "laplace"))


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    stored = [run for run in load() if _plain(run)]
    for prefix in ("digits", "fashion"):
        print(
            "\n".join(table(prefix, [run for run in stored if run.name.startswith(prefix)])),
            end="\n\n",
        )
