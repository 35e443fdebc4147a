"""A pruner for several objectives. Needs nothing but Optuna; use it in any study of yours.

Optuna neither reports nor prunes for several objectives: `Trial.report` and
`Trial.should_prune` refuse. Here the intermediate vectors stand in user attributes of the trial,
and the pruner ranks them by Pareto dominance.
"""

import math
from collections.abc import Sequence

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from tune_vae.service.front import dominates, fronts, net_order, spans

__all__ = ["ParetoPruner", "is_vector", "report_vector", "vectors_of"]

_PREFIX = "vector:"


def report_vector(trial: optuna.Trial, values: Sequence[float], step: int) -> None:
    """Note the intermediate values of all objectives; `Trial.report` for several objectives.

    Arguments:
        trial: A running trial.
        values: In the order of the study's directions; NaN is allowed, and the worst of all.
        step: At least 1.
    """
    # As text: JSON has no NaN. Not as intermediate values: Optuna's TPE asks a study for its
    # one direction as soon as a pruned trial has any.
    trial.set_user_attr(f"{_PREFIX}{step}", [repr(float(value)) for value in values])


def is_vector(key: str) -> bool:
    """Whether a user attribute holds an intermediate vector."""
    return key.startswith(_PREFIX)


def vectors_of(trial: FrozenTrial) -> dict[int, tuple[float, ...]]:
    """Intermediate vectors of a trial by step, as they were reported."""
    return {
        int(key.removeprefix(_PREFIX)): tuple(map(float, value))
        for key, value in trial.user_attrs.items()
        if is_vector(key)
    }


class ParetoPruner(optuna.pruners.BasePruner):
    r"""Asynchronous successive rejection by Pareto rank.

    A trial is judged at the rungs :math:`r, r\rho, r\rho^2, \dots` only. At a rung each trial
    counts with the first vector that it reported there or later; so one that had nothing to
    report before, as during a warm-up, is judged when it reports, at the last rung it has passed.
    Vectors are ordered by non-dominated sorting, and within a front by an epsilon net, so that
    the ones which are kept lie far apart. The best :math:`\kappa` go on: where the first front
    alone is larger, the range that it covers is kept, and what lies near to another is given up.
    Like all asynchronous halving it waits for nobody, so that early trials pass easily.

    Successive halving is :math:`\kappa = 1/\rho`. With several objectives most trials lie on or
    near some front, so few rungs that each keep more serve better: see
    `tests/benchmarks/searches` for what each form found at the same cost.

    A value that is NaN is worse than every number. Failed trials are compared with nothing.

    References:
        | Multi-objective Asynchronous Successive Halving (Schmucker et al., 2021)
        | https://arxiv.org/abs/2106.12639
        | Asynchronous successive halving (Li et al., 2018)
        | https://arxiv.org/abs/1810.05934

    Arguments:
        min_resource: Step of the first rung, at least 1.
        rung_factor: :math:`\rho`, from one rung to the next, an integer of at least 2.
        keep: :math:`\kappa`, the share of a rung that goes on, rounded up; in (0, 1).
        epsilon: Share of an objective's span over the rung that counts as no difference,
            in [0, 1): a vector beats another if it is nowhere worse and somewhere better by
            more than that.
        n_min_trials: How many trials must have reached a rung, the judged one included, before
            anything is stopped there; at least 1.

    Example:
        study = optuna.create_study(directions=["minimize"] * 2, pruner=ParetoPruner())
        trial = study.ask()
        for step in range(1, 11):
            report_vector(trial, train_one_epoch(), step)
            if trial.study.pruner.should_prune(trial):
                break
    """

    def __init__(
        self,
        min_resource: int = 1,
        rung_factor: int = 4,
        *,
        keep: float = 0.4,
        epsilon: float = 0.01,
        n_min_trials: int = 5,
    ) -> None:
        for name, value, low in (
            ("min_resource", min_resource, 1),
            ("rung_factor", rung_factor, 2),
            ("n_min_trials", n_min_trials, 1),
        ):
            if not (isinstance(value, int) and value >= low):
                raise ValueError(f"{name} must be an integer of at least {low}, got {value!r}")
        if not 0.0 < keep < 1.0:
            raise ValueError(f"keep must lie in (0, 1), got {keep!r}")
        if not 0.0 <= epsilon < 1.0:
            raise ValueError(f"epsilon must lie in [0, 1), got {epsilon!r}")
        self._first, self._factor, self._keep = min_resource, rung_factor, keep
        self._epsilon, self._n_min_trials = epsilon, n_min_trials

    def should_prune(self, trial: optuna.Trial) -> bool:
        """`Trial.should_prune` for several objectives."""
        (mine,) = (row for row in trial.study.get_trials(deepcopy=False) if _same(row, trial))
        return self.prune(trial.study, mine)

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Whether a trial that just reported should end. See `optuna.pruners.BasePruner`."""
        *_, before, step = (0, 0, *sorted(vectors_of(trial)))
        if before >= self._rung_below(step):
            return False
        rung = self._rung(study, trial, step)
        if len(rung) < self._n_min_trials:
            return False
        return self._place(rung) >= math.ceil(len(rung) * self._keep)

    def beaten_by(self, study: optuna.Study, trial: FrozenTrial) -> tuple[int, int]:
        """How many vectors at a trial's latest rung beat its own, and how many there are."""
        mine, *others = self._rung(study, trial, max(vectors_of(trial)))
        margins = self._margins([mine, *others])
        return sum(dominates(other, mine, margins) for other in others), len(others)

    def _rung_below(self, step: int) -> int:
        """The last rung that a step has reached; 0 before the first."""
        if step < self._first:
            return 0
        rung = self._first
        while rung * self._factor <= step:
            rung *= self._factor
        return rung

    def _rung(self, study: optuna.Study, trial: FrozenTrial, step: int) -> list[tuple[float, ...]]:
        """Vectors to be minimised at the rung that a trial has reached, its own first."""
        rung = self._rung_below(step)
        others = [
            row
            for row in study.get_trials(deepcopy=False)
            if row.number != trial.number and row.state is not TrialState.FAIL
        ]
        vectors = [vectors_of(trial)[step]]
        for row in others:
            reported = vectors_of(row)
            reached = [other for other in reported if other >= rung]
            if reached:
                vectors.append(reported[min(reached)])
        return [_minimised(vector, study.directions) for vector in vectors]

    def _margins(self, vectors: Sequence[Sequence[float]]) -> list[float]:
        return [self._epsilon * span for span in spans(vectors)]

    def _place(self, rung: Sequence[Sequence[float]]) -> int:
        """Position of the first vector in the order of the rung."""
        before = 0
        for front in fronts(rung, self._margins(rung)):
            if 0 in front:
                return before + net_order([rung[i] for i in front]).index(front.index(0))
            before += len(front)
        raise AssertionError("each vector is in some front")


def _same(row: FrozenTrial, trial: optuna.Trial) -> bool:
    return row.number == trial.number


def _minimised(vector: Sequence[float], directions: Sequence[StudyDirection]) -> tuple[float, ...]:
    signed = (
        -value if direction is StudyDirection.MAXIMIZE else value
        for value, direction in zip(vector, directions, strict=True)
    )
    return tuple(math.inf if math.isnan(value) else value for value in signed)
