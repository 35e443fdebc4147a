"""What a study found: the best trial, the Pareto front, and how the others ended."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from tune_vae.science.health import Kind
from tune_vae.service.finalists import Finalist, chosen
from tune_vae.service.front import dominates, hypervolume, knee, undominated
from tune_vae.service.rows import TrialRow
from tune_vae.spec.study import StudyOutline
from tune_vae.spec.trial import TrialConfig

NOTABLE = 0.002
"""A rise of `StudyResults.course` by no more than this does not count as an improvement."""

__all__ = ["StudyResults"]


@dataclass(frozen=True)
class StudyResults:
    """A study as it stands.

    Arguments:
        study: Its name.
        objective: What it minimises.
        planned: Trials in the budget.
        rows: Its trials, in the order of their numbers.
        patience: Trials without a notable improvement after which it ends; None for no limit.
        repeats: Finalists with other seeds, which are no trials of their own.
        seeds: With how many seeds each finalist shall be trained, its trial included.
        top: How many finalists there shall be.
        foretold: Points that were drawn and not trained, being dead by the spectrum of the data.
    """

    study: str
    objective: tuple[str, ...]
    planned: int
    rows: Sequence[TrialRow] = field(default_factory=tuple)
    patience: int | None = None
    repeats: Sequence[TrialRow] = field(default_factory=tuple)
    seeds: int = 1
    top: int = 3
    foretold: int = 0

    @classmethod
    def of(
        cls, spec: StudyOutline, rows: Sequence[TrialRow], *, foretold: int = 0
    ) -> "StudyResults":
        """What the rows of a study's ledger say."""
        budget = spec.budget
        return cls(
            study=spec.name,
            objective=spec.objective,
            planned=budget.trials,
            rows=[row for row in rows if row.config.repeat_of is None],
            patience=budget.patience,
            repeats=[row for row in rows if row.config.repeat_of is not None],
            seeds=budget.seeds,
            top=budget.finalists,
            foretold=foretold,
        )

    @cached_property
    def ended(self) -> list[TrialRow]:
        return [row for row in self.rows if row.ended]

    @property
    def counts(self) -> dict[Kind, int]:
        """Ended trials by verdict."""
        counted = Counter(row.kind for row in self.ended)
        return {kind: counted[kind.value] for kind in Kind if counted[kind.value]}

    @cached_property
    def front(self) -> list[TrialRow]:
        """Finished trials that no other beats in every objective, best first objective first.

        With one objective this is the winner, and whoever ties with it.
        """
        finished = self._scored
        best = [finished[i] for i in undominated([row.values for row in finished])]
        return sorted(best, key=lambda row: (row.values, row.trial))

    @cached_property
    def _scored(self) -> list[TrialRow]:
        """Finished trials all of whose values are finite, in the order in which they ended."""
        return [row for row in self._in_order if row.scored]

    @cached_property
    def _in_order(self) -> list[TrialRow]:
        """Ended trials in the order in which they ended."""
        return sorted(self.ended, key=lambda row: (row.ended_at or 0.0, row.trial))

    @property
    def winner(self) -> TrialRow | None:
        """The trial to take of a study with one objective.

        It is the finalist of the lowest mean over its repeats once these have ended, and the
        best finished trial before that. Whether it is so by more than chance says `proven`.
        """
        if len(self.objective) > 1 or not self.front:
            return None
        return self.finalists[0].row if self.settled else self.front[0]

    @property
    def settled(self) -> bool:
        """Whether the repeats say which trial is best.

        They have all ended, the best trial of the search is among the finalists, and one
        finalist at least has a value for every seed.
        """
        finalists = self.finalists
        return (
            bool(finalists)
            and all(one.ended for one in finalists)
            and self.front[0] in [one.row for one in finalists]
            and bool(finalists[0].estimates)
        )

    @property
    def proven(self) -> bool:
        """Whether the winner is told apart from every other finalist; see `finalists`."""
        if len(self.objective) > 1 or not self.settled:
            return False
        first, *others = self.finalists
        rivals = [other for other in others if other.estimates]
        return bool(rivals) and all(first.differences(other)[0].real for other in rivals)

    @cached_property
    def finalists(self) -> list[Finalist]:
        """Trials that were repeated, the lowest mean first and those without a mean last.

        With two objectives they stand in the order of the front.
        """
        repeats: dict[int | None, list[TrialRow]] = {}
        for row in self.repeats:
            repeats.setdefault(row.config.repeat_of, []).append(row)
        found = [
            Finalist(row, tuple(repeats[row.trial])) for row in self.rows if row.trial in repeats
        ]

        def place(one: Finalist) -> tuple[bool, float, tuple[float, ...]]:
            known = one.estimates if len(self.objective) == 1 else ()
            return not known, known[0].mean if known else 0.0, one.row.values

        return sorted(found, key=place)

    @property
    def wanted(self) -> list[TrialConfig]:
        """Every repeat that the best trials of now shall have, those that have ended included."""
        finalists = chosen(self.front, self._scored, self.top)
        return [row.config.repeated(count) for row in finalists for count in range(1, self.seeds)]

    @property
    def pending(self) -> list[TrialConfig]:
        """Those of the wanted repeats that have not ended."""
        ended = {row.trial for row in self.repeats if row.ended}
        return [config for config in self.wanted if config.trial not in ended]

    @property
    def nearest_samples(self) -> TrialRow | None:
        """The finished trial whose samples are nearest to real examples."""
        rows = [row for row in self.rows if row.finished and "sample_distance" in row.appraisal]
        return min(rows, key=lambda row: row.appraisal["sample_distance"], default=None)

    def best(self, count: int) -> list[TrialRow]:
        """Finished trials by their first objective."""
        finished = [row for row in self.rows if row.finished and row.values]
        return sorted(finished, key=lambda row: row.values)[:count]

    @property
    def reference(self) -> tuple[float, ...]:
        """The worst value of each objective among the finished trials."""
        return tuple(map(max, zip(*(row.values for row in self._scored), strict=True)))

    @property
    def ideal(self) -> tuple[float, ...]:
        """The best value of each objective, which no single trial need have reached."""
        return tuple(map(min, zip(*(row.values for row in self._scored), strict=True)))

    @cached_property
    def course(self) -> list[float | None]:
        """How far the study had come after each ended trial; None before one finished.

        It is the hypervolume that the finished trials dominate up to `reference`, as a share of
        the box between it and `ideal`; with one objective, the best value's share of the way
        from the worst to the best of all. The scale is that of all trials, so that shares of
        different counts can be compared.
        """
        scored = {row.trial for row in self._scored}
        best: list[tuple[float, ...]] = []
        shares: list[float | None] = []
        for row in self._in_order:
            if row.trial in scored and not any(dominates(one, row.values) for one in best):
                best = [one for one in best if not dominates(row.values, one)] + [row.values]
                shares.append(self._share(best))
            else:
                shares.append(shares[-1] if shares else None)
        return shares

    def _share(self, front: list[tuple[float, ...]]) -> float:
        worst = self.reference
        box = math.prod(w - b for w, b in zip(worst, self.ideal, strict=True))
        if not box:
            return 1.0
        return (hypervolume(front, worst) if len(worst) == 2 else worst[0] - front[0][0]) / box

    @property
    def idle(self) -> int:
        """Trials that have ended since the last notable improvement, broken ones left out.

        An improvement is notable if `course` rose by more than `NOTABLE` since the one before,
        or is the first trial that finished.
        """
        best, idle = -math.inf, 0
        for row, reached in zip(self._in_order, self.course, strict=True):
            if reached is not None and reached > best + NOTABLE:
                best, idle = reached, 0
            elif row.kind != Kind.FAILED.value:
                idle += 1
        return idle

    @property
    def stalled(self) -> bool:
        """Whether the study has been without an improvement for as long as it may."""
        return self.patience is not None and self.idle >= self.patience

    @property
    def knee(self) -> TrialRow | None:
        """The trial of a front of two objectives where it bends most; see `front.knee`."""
        front = self.front if len(self.objective) == 2 else []
        bend = knee([row.values for row in front])
        return None if bend is None else front[bend]

    @property
    def rate_picks(self) -> list[tuple[float, TrialRow]]:
        """For budgets of rate, the trial of the front that does best with no more nats.

        Budgets are 1, 2, 5, 10, 20, … nats; those that bring no other trial are left out. Empty
        unless `rate_nats` is one of two objectives.
        """
        if len(self.objective) != 2 or "rate_nats" not in self.objective:
            return []
        rate = self.objective.index("rate_nats")
        picks: list[tuple[float, TrialRow]] = []
        for budget in (factor * 10.0**power for power in range(-2, 7) for factor in (1, 2, 5)):
            within = [row for row in self.front if row.values[rate] <= budget]
            best = min(within, key=lambda row: row.values[1 - rate], default=None)
            if best and (not picks or picks[-1][1] != best):
                picks.append((budget, best))
        return picks
