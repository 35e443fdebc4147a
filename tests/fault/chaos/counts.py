"""What became of a study, counted from its three stores and from what was really trained."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mlflow import MlflowClient
from optuna.trial import FrozenTrial, TrialState

from tests.fault.chaos.diary import Entry
from tests.searching import Workplace
from tune_vae.service.rows import is_interrupted, is_surplus, origin

__all__ = ["Counts", "count", "lives", "repeated"]


@dataclass(frozen=True)
class Counts:
    """Of a study that came to its end.

    Arguments:
        trials: How many there were to be.
        ended: Trials that ended with a verdict.
        lost: Trials that did not, or that have no page.
        duplicated: Trials with two ends or two pages, and those beyond the budget.
        failed: Trials that ended as broken.
        logged_twice: Epochs that a page shows more than once.
        missing: Epochs that a page does not show.
        interrupted: Attempts that began after another.
        repeated: Most epochs that one of them began although they had been begun before.
        repeated_in_all: All of those epochs.
        which: The duplicates, in words.
    """

    trials: int
    ended: int
    lost: int
    duplicated: int
    failed: int
    logged_twice: int
    missing: int
    interrupted: int
    repeated: int
    repeated_in_all: int
    which: Sequence[str] = ()

    @property
    def flawless(self) -> bool:
        bad = (self.lost, self.duplicated, self.failed, self.logged_twice, self.missing)
        return self.ended == self.trials and not any(bad) and self.repeated <= 1

    def __str__(self) -> str:
        return (
            f"{self.ended} of {self.trials} trials ended, {self.lost} lost, {self.duplicated} "
            f"duplicated, {self.failed} failed; {self.logged_twice} epochs logged twice, "
            f"{self.missing} missing; at most {self.repeated} epoch repeated by each of "
            f"{self.interrupted} interrupted attempts, {self.repeated_in_all} in all"
            + "".join(f"; {one}" for one in self.which)
        )


def count(place: Workplace, entries: Sequence[Entry], steps: int) -> Counts:
    """Look at a study from a machine that reaches its stores.

    Arguments:
        place: Of the study.
        entries: Its diary.
        steps: Optimiser steps of an epoch.
    """
    budget = place.spec.budget.trials
    ends = Counter(origin(row) for row in place.optuna_rows() if _is_end(row))
    rows = {row.trial: row for row in place.rows()}
    pages = Counter[int]()
    twice = missing = 0
    for run, trial in _pages(place):
        pages[trial] += 1
        shown = Counter(
            metric.step for metric in place.client.get_metric_history(run, "sched/kl_weight")
        )
        twice += sum(times - 1 for times in shown.values())
        missing += len(set(range(1, rows[trial].epoch + 1)) - set(shown))
    again = list(repeated(entries, steps))
    which = [
        f"trial {trial} has {times} {what}"
        for what, found in (("ends", ends), ("pages", pages))
        for trial, times in found.items()
        if times > 1
    ]
    return Counts(
        trials=budget,
        ended=len(ends),
        lost=budget - len(ends) + len(set(ends) - set(pages)),
        duplicated=sum(n - 1 for n in (*ends.values(), *pages.values()))
        + max(0, len(rows) - budget),
        failed=sum(row.kind == "failed" for row in rows.values()),
        logged_twice=twice,
        missing=missing,
        interrupted=len(again),
        repeated=max(again, default=0),
        repeated_in_all=sum(again),
        which=which,
    )


def _is_end(row: FrozenTrial) -> bool:
    ended = row.state in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
    return ended and "config" in row.user_attrs and not (is_interrupted(row) or is_surplus(row))


def _pages(place: Workplace) -> Iterator[tuple[str, int]]:
    """MLflow's runs of trials, with the trials."""
    client: MlflowClient = place.client
    experiment = client.get_experiment_by_name(place.spec.name)
    assert experiment is not None
    for run in client.search_runs(
        [experiment.experiment_id], "tags.`tune_vae.kind` = 'trial'", max_results=5000
    ):
        yield run.info.run_id, int(run.data.tags["tune_vae.trial"])


def lives(entries: Sequence[Entry]) -> dict[str, list[tuple[int, int]]]:
    """First and last step of every attempt that trained, by trial, in the order of time."""
    spans: dict[str, dict[str, tuple[int, int]]] = defaultdict(dict)
    for entry in entries:
        first, _ = spans[entry.trial].get(entry.life, (entry.step, entry.step))
        spans[entry.trial][entry.life] = first, entry.step
    return {trial: list(of_lives.values()) for trial, of_lives in spans.items()}


def repeated(entries: Sequence[Entry], steps: int) -> Iterator[int]:
    """For each attempt after another, the epochs it began that had been begun before.

    Example:
        >>> steps = [Entry("a", "x", step) for step in (1, 2, 3)]
        >>> list(repeated([*steps, Entry("a", "y", 3), Entry("a", "y", 4)], steps=2))
        [1]
    """
    for spans in lives(entries).values():
        furthest = spans[0][1]
        for first, last in spans[1:]:
            yield max(0, (furthest - 1) // steps - (first - 1) // steps + 1)
            furthest = max(furthest, last)
