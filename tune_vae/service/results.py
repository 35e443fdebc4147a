"""What a study found: the best trial, the Pareto front, and how the others ended."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tune_vae.science.health import Kind
from tune_vae.science.history import EpochReport
from tune_vae.spec.trial import TrialConfig

__all__ = ["StudyResults", "TrialRow"]


@dataclass(frozen=True)
class TrialRow:
    """What the ledger knows of a trial.

    Arguments:
        config: Its configuration.
        state: `waiting` for its turn or to be taken up again, `running`, or `ended`.
        finished: Whether it ran all its epochs and counts with its values.
        kind, reason: Its verdict once it has ended, else empty.
        values: Its objectives, if finished.
        best, last: Its best comparable and its last report, once it has ended.
        epoch: Epochs done.
        attempts: How often it was begun; more than 1 after interruptions.
        owner: Host that runs it.
        started, ended_at: Seconds since 1970.
        appraisal: Scores of its best epoch's model, if it finished; see `Appraisal`.
    """

    config: TrialConfig
    state: str
    finished: bool
    kind: str
    reason: str
    values: tuple[float, ...]
    best: EpochReport | None
    last: EpochReport | None
    epoch: int
    attempts: int = 1
    owner: str = ""
    started: float | None = None
    ended_at: float | None = None
    appraisal: Mapping[str, float] = field(default_factory=dict)

    @property
    def trial(self) -> int:
        return self.config.trial

    @property
    def ended(self) -> bool:
        return self.state == "ended"


@dataclass(frozen=True)
class StudyResults:
    """A study as it stands.

    Arguments:
        study: Its name.
        objective: What it minimises.
        planned: Trials in the budget.
        rows: Its trials, in the order of their numbers.
    """

    study: str
    objective: tuple[str, ...]
    planned: int
    rows: Sequence[TrialRow] = field(default_factory=tuple)

    @property
    def ended(self) -> list[TrialRow]:
        return [row for row in self.rows if row.ended]

    @property
    def counts(self) -> dict[Kind, int]:
        """Ended trials by verdict."""
        counted = Counter(row.kind for row in self.ended)
        return {kind: counted[kind.value] for kind in Kind if counted[kind.value]}

    @property
    def front(self) -> list[TrialRow]:
        """Finished trials that no other beats in every objective, best first objective first.

        With one objective this is the winner, and whoever ties with it.
        """
        finished = [
            row
            for row in self.rows
            if row.finished and row.values and all(math.isfinite(v) for v in row.values)
        ]
        best = [
            row
            for row in finished
            if not any(_dominates(other.values, row.values) for other in finished)
        ]
        return sorted(best, key=lambda row: (row.values, row.trial))

    @property
    def winner(self) -> TrialRow | None:
        """The best finished trial of a study with one objective."""
        return self.front[0] if len(self.objective) == 1 and self.front else None

    @property
    def nearest_samples(self) -> TrialRow | None:
        """The finished trial whose samples are nearest to real examples."""
        rows = [row for row in self.rows if row.finished and "sample_distance" in row.appraisal]
        return min(rows, key=lambda row: row.appraisal["sample_distance"], default=None)

    def best(self, count: int) -> list[TrialRow]:
        """Finished trials by their first objective."""
        finished = [row for row in self.rows if row.finished and row.values]
        return sorted(finished, key=lambda row: row.values)[:count]


def _dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    return all(a <= b for a, b in zip(one, other, strict=True)) and tuple(one) != tuple(other)
