"""What became of the trials of a search, also of those that were stopped before it showed.

A trial is deterministic given its configuration and seed, so that one which was stopped can be
trained to its end afterwards, outside of the budget.
"""

import math
import random
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tests.benchmarks.searches.log import Log
from tests.benchmarks.verdicts.histories import Label, Run
from tune_vae.data import Splits
from tune_vae.science.history import History
from tune_vae.service.journey import history_of
from tune_vae.spec.trial import TrialConfig
from tune_vae.training.trainer import Trainer

__all__ = ["Outcome", "best_bits", "draw", "label", "outcomes", "spent_by_label", "to_their_ends"]

DRAWS = 24
"""So many epochs are drawn of those spent in trials whose end is not known."""

PACK = 8


@dataclass(frozen=True)
class Outcome:
    """A trial of a search.

    Arguments:
        epochs: Epochs it was given.
        end: How it ended; see `Log`. `cut` if the budget was spent before.
        best: Lowest bits per dim of these epochs; None if none is finite.
        values: Rate in nats and squared error after the last of them.
        label: What became of it, or would have; None if it was not found out.
        possible: Lowest bits per dim of any epoch if it is trained to its end; None likewise.
        draws: How many of the epochs that were drawn are its own.
    """

    epochs: int
    end: str
    best: float | None
    values: tuple[float, float]
    label: Label | None = None
    possible: float | None = None
    draws: int = 0


def outcomes(log: Log, data: Splits, *, draws: int = DRAWS, seed: int = 0) -> list[Outcome]:
    """The trials in the order in which they ran; the open ones of the epochs drawn trained on.

    Each epoch spent in a trial whose end is not known is as likely to be drawn as any other.
    With as many draws as there are such trials or more, all of them are trained on instead.
    """
    histories = log.histories()
    known = {trial: end for trial, history in histories.items() if (end := _end(history))}
    unknown = [trial for trial in histories if trial not in known]
    drawn = draw({trial: len(histories[trial]) for trial in unknown}, draws, seed)
    known |= to_their_ends([log.configs[trial] for trial in sorted(set(drawn))], data)
    return [
        Outcome(
            epochs=len(history),
            end=log.ends.get(trial, "cut"),
            best=best_bits(history),
            values=(history.last.rate_nats, history.last.mse),
            label=label(known[trial]) if trial in known else None,
            possible=best_bits(known[trial]) if trial in known else None,
            draws=drawn.count(trial),
        )
        for trial, history in histories.items()
    ]


def draw(spent: Mapping[int, int], draws: int, seed: int) -> list[int]:
    """Trials whose epochs were drawn, each as often as it was met; all once if draws suffice."""
    if len(spent) <= draws:
        return list(spent)
    return random.Random(seed).choices(list(spent), list(spent.values()), k=draws)


def spent_by_label(found: Iterable[Outcome]) -> dict[str, float]:
    """Epochs spent in trials of each label; those of the trials not labelled are estimated."""
    found = list(found)
    spent: dict[str, float] = defaultdict(float)
    unlabelled = [one for one in found if one.label is None]
    drawn = [one for one in found if one.draws]
    for one in found:
        # Once some trials are left without a label, the ones drawn stand for all of the open.
        if one.label and not (unlabelled and one.draws):
            spent[one.label] += one.epochs
    if unlabelled:
        open_epochs = sum(one.epochs for one in unlabelled + drawn)
        draws = sum(one.draws for one in drawn)
        for one in drawn:
            assert one.label
            spent[one.label] += open_epochs * one.draws / draws
    return dict(spent)


def label(history: History) -> Label:
    """The rule of the benchmark of the verdicts."""
    return Run("", "", 0.0, 0.0, history).label


def best_bits(history: History) -> float | None:
    """Lowest bits per dim of any epoch, whatever the KL weight was: all are at beta 1."""
    return min((r.bits_per_dim for r in history if math.isfinite(r.bits_per_dim)), default=None)


def to_their_ends(configs: Iterable[TrialConfig], data: Splits) -> Mapping[int, History]:
    """Train trials without anybody to stop them, those of one kind together."""
    kinds = defaultdict(list)
    for config in configs:
        kinds[config.member().pack_key()].append(config)
    packs = [kind[i : i + PACK] for kind in kinds.values() for i in range(0, len(kind), PACK)]
    histories: dict[int, History] = {}
    for pack in packs:
        histories |= {config.trial: history_of(config, None) for config in pack}
        for reports in Trainer([config.member() for config in pack], data):
            for report in reports:
                histories[report.trial].add(report)
    return histories


def _end(history: History) -> History | None:
    """A history that tells what becomes of its trial: complete, or not finite and never again."""
    return history if history.finished or not history.last.finite else None
