"""Lets a sampler of Optuna read no more than some of a study's trials, however many there are.

What Optuna's TPE draws from is made anew for each trial: two densities, of the best few and of
all others, with a kernel for each of them. After some thousand trials an ask would take seconds.
"""

from collections.abc import Container, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from tune_vae.service.front import undominated

__all__ = ["BEST", "MOST", "BoundedSampler"]

MOST = 500
"""Ended trials that are read."""
BEST = 100
"""Those of them that are the best of all; the others are the newest. With one objective TPE takes
the best 25 for good, the same as without a bound, and with two a tenth of what it sees."""


class BoundedSampler(optuna.samplers.BaseSampler):
    """A sampler that sees the best of the ended trials and the newest of the others.

    With no more than `most` ended trials it draws what it draws without. The newest are those
    that TPE weighs most anyway.

    Arguments:
        sampler: Of Optuna, one that takes what it needs from the trials of the study.
        best: How many of the best finished trials it sees.
        most: How many ended trials in all.
    """

    def __init__(
        self, sampler: optuna.samplers.BaseSampler, *, best: int = BEST, most: int = MOST
    ) -> None:
        self._sampler, self._best, self._most = sampler, best, most
        self._latest: tuple[int, Any] = (-1, None)

    def reseed_rng(self) -> None:
        self._sampler.reseed_rng()

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self._sampler.infer_relative_search_space(self._part(study, trial), trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._sampler.sample_relative(self._part(study, trial), trial, search_space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        part = self._part(study, trial)
        return self._sampler.sample_independent(part, trial, param_name, param_distribution)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self._sampler.before_trial(study, trial)

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        self._sampler.after_trial(study, trial, state, values)

    def _part(self, study: optuna.Study, trial: FrozenTrial) -> Any:
        """What is seen of a study; the same for all parameters of a trial, and read once."""
        if self._latest[0] != trial.number:
            self._latest = trial.number, self._part_of(study)
        return self._latest[1]

    def _part_of(self, study: optuna.Study) -> Any:
        rows = study.get_trials(deepcopy=False)
        ended = [row for row in rows if row.state in (TrialState.COMPLETE, TrialState.PRUNED)]
        if len(ended) <= self._most:
            return _Part(study, rows)
        best = _best(ended, self._best)
        numbers = {row.number for row in best}
        others = [row for row in ended if row.number not in numbers]
        numbers |= {row.number for row in others[len(best) - self._most :]}
        seen = [row for row in rows if row.number in numbers or not row.state.is_finished()]
        return _Part(study, seen)


def _best(rows: list[FrozenTrial], count: int) -> list[FrozenTrial]:
    """The best finished trials: front by front, or by the one objective, where a front is one."""
    left = [row for row in rows if row.state is TrialState.COMPLETE]
    if left and len(left[0].values) == 1:
        return sorted(left, key=lambda row: (row.values[0], row.number))[:count]
    found: list[FrozenTrial] = []
    while left and len(found) < count:
        front = set(undominated([row.values for row in left]))
        found += [row for place, row in enumerate(left) if place in front]
        left = [row for place, row in enumerate(left) if place not in front]
    return found[:count]


class _Part:
    """A study of which only some rows are seen, as they were at one moment."""

    def __init__(self, study: optuna.Study, rows: list[FrozenTrial]) -> None:
        self._whole, self._rows = study, rows

    def __getattr__(self, name: str) -> Any:
        return getattr(self._whole, name)

    def get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        return self._get_trials(deepcopy, states)

    def _get_trials(
        self,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
        use_cache: bool = False,
    ) -> list[FrozenTrial]:
        # Samplers of Optuna 5 ask by this name. Nobody here writes to a row.
        return [row for row in self._rows if states is None or row.state in states]
