"""Where new trials come from: what is known to be good, then what the sampler draws.

A point that is dead by the data's spectrum is drawn, told and not trained.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from tune_vae.errors import StudyError
from tune_vae.science.collapse_point import CollapsePoints
from tune_vae.science.health import Kind
from tune_vae.service.foretold import foretold
from tune_vae.service.ledger.leases import Leases
from tune_vae.service.ledger.open_study import OpenStudy
from tune_vae.service.ledger.patience import DATABASE_ERRORS, patient
from tune_vae.service.plugins import quiet, sampler_of
from tune_vae.service.rows import (
    firsts,
    graph_of,
    has_rival,
    is_constant_again,
    is_heir,
    is_stillborn,
    memory_limit,
    most_in_a_pack,
)
from tune_vae.spec.known_good import KnownGood, known_good
from tune_vae.spec.trial import TrialConfig

__all__ = ["Asked", "Draws"]

REDRAWS = 100
"""How often a point that is foretold dead is drawn again before one is trained all the same."""


@dataclass(frozen=True)
class Asked:
    """A trial to run now.

    Arguments:
        config: What it is.
        graph: Parameters that the others of its pack must have as well.
        most: Trials that its pack may have.
        again: Whether it was begun before.
    """

    config: TrialConfig
    graph: dict[str, Any]
    most: int
    again: bool = False


class Draws:
    """Trials one by one.

    Arguments:
        opened: The study.
        leases: What runs here.
        shape, levels, classes: Of its data.
        points: Beyond which KL weights they leave no latent alive; None if not known.
        seen: What is known to be good for them.
    """

    def __init__(
        self,
        opened: OpenStudy,
        leases: Leases,
        *,
        shape: tuple[int, int, int],
        levels: int | None,
        classes: int,
        points: CollapsePoints | None,
        seen: Sequence[KnownGood],
    ) -> None:
        self._opened, self._leases, self.outages = opened, leases, opened.outages
        self._spec, self._points, self._seen = opened.spec, points, seen
        self._shape, self._levels, self._classes = shape, levels, classes

    @patient
    def enqueue_known_good(self) -> None:
        """Let what is known to be good be the first trials of a study that has none yet.

        Two processes that begin it at the same moment may both do so; see `is_constant_again`.
        """
        rows = self._opened.rows()
        if any("config" in row.user_attrs for row in rows):
            return
        there = {row.user_attrs.get("known_good") for row in rows if not is_stillborn(row)}
        constants = known_good(self._spec, values=math.prod(self._shape), seen=self._seen)
        for name, parameters in constants[: self._spec.budget.trials]:
            if name not in there:
                self._opened.study.enqueue_trial(parameters, user_attrs={"known_good": name})

    @patient
    def ask(self, fixed: dict[str, Any], size: int) -> Asked | None:
        """One trial for a pack of `size`, with the parameters in `fixed` held.

        None if another machine was faster.
        """
        for redraws in range(REDRAWS + 1):
            taken = self._take_next(fixed)
            if taken is None:
                return None
            trial, rows = taken
            attrs = dict(rows[trial.number].user_attrs)
            config = self._config_of(trial, attrs, foretell=redraws < REDRAWS)
            if config:
                break
        assert config is not None
        row = self._opened.storage.get_trial(trial._trial_id)
        graph = graph_of(row)
        if "config" in attrs:
            # What was interrupted for another reason goes on alone: it may have been its fault.
            most = min(size, most_in_a_pack(row, 1))
        else:
            most = 1 if "known_good" in attrs else memory_limit(rows, graph, size)
        # The last that is done: from here on its lease is renewed.
        self._leases.live[config.trial] = trial
        return Asked(config, graph, most, again="config" in attrs)

    def _take_next(self, fixed: dict[str, Any]) -> tuple[optuna.Trial, list[FrozenTrial]] | None:
        """A row that waits or a new one, among all rows as they were before it was drawn; None if
        it was one too many.
        """
        before = self._opened.rows()
        self._opened.study.sampler = self._sampler(_drawn(before), fixed)
        with quiet():
            trial = self._opened.study.ask()
        self._leases.begin(trial)
        rows = self._opened.rows()
        row = rows[trial.number]
        if trial.number > len(before):
            # Another machine asked at the same moment, and must not draw the same point.
            self._opened.study.sampler = self._sampler(_drawn(rows[: trial.number]), fixed)
        one_too_many = (
            has_rival(row, rows)
            if "config" in row.user_attrs
            else self._exceeds_budget(row, rows) or is_constant_again(row, rows)
        )
        if one_too_many:
            self._leases.drop(trial)
            return None
        return trial, rows

    def _config_of(
        self, trial: optuna.Trial, attrs: dict[str, Any], *, foretell: bool
    ) -> TrialConfig | None:
        """What a row is to train; None if it is not worth it."""
        if "config" in attrs:
            return TrialConfig.model_validate_json(attrs["config"])
        constant = attrs.get("known_good", "")
        config = self._draw(trial, constant)
        dead = self._foretold(config) if foretell and not constant else ""
        if dead:
            self._pass_over(trial, dead)
            return None
        trial.set_user_attr("config", config.model_dump_json())
        return config

    def _exceeds_budget(self, row: FrozenTrial, rows: list[FrozenTrial]) -> bool:
        """Whether another machine asked for the last trial of the budget at the same moment."""
        if row.number < self._spec.budget.trials:
            return False
        earlier = [first for first in firsts(rows) if first.number < row.number]
        return len(earlier) >= self._spec.budget.trials

    def _draw(self, trial: optuna.Trial, constant: str) -> TrialConfig:
        """Choose the parameters of a new trial.

        Raises:
            StudyError: The sampler cannot.
        """
        try:
            drawn = self._spec.draw(_Suggest(trial))
        except DATABASE_ERRORS:
            raise
        except Exception as error:
            # A sampler may be the user's own, and Optuna's raise ValueError for some spaces.
            self._opened.tell(trial, state=TrialState.FAIL)
            name = next(iter(self._spec.sampler))
            raise StudyError(f"sampler `{name}` cannot search this space: {error}") from error
        return TrialConfig.of(
            self._spec,
            drawn,
            trial=trial.number,
            shape=self._shape,
            levels=self._levels,
            classes=self._classes,
            known_good=constant,
        )

    def _foretold(self, config: TrialConfig) -> str:
        """Why a new configuration need not be trained; empty if it must be."""
        sampler = self._sampler(0, {})
        if isinstance(sampler, optuna.samplers.GridSampler | optuna.samplers.BruteForceSampler):
            # Who asks for every point of a finite space shall have it.
            return ""
        return foretold(config, self._points, factor=self._spec.health.foretold)

    def _pass_over(self, trial: optuna.Trial, reason: str) -> None:
        """Tell the sampler of a point that is not trained."""
        trial.set_constraint(Kind.NEVER_FORMED.value, 1.0)
        trial.set_user_attr("foretold", reason)
        self._opened.tell(trial, state=TrialState.PRUNED)

    def _sampler(self, rows: int, fixed: dict[str, Any]) -> optuna.samplers.BaseSampler:
        # A fresh sampler with a seed of (study, rows): one that were made again with the same
        # seed would suggest the same points again after a restart.
        sampler = sampler_of(self._spec, seed_of=f"{self._spec.train.seed} {rows}")
        if isinstance(sampler, optuna.samplers.GridSampler):
            # It notes points by their place in an order that the seed makes.
            sampler = sampler_of(self._spec, seed_of=f"{self._spec.train.seed}")
        with quiet():
            return optuna.samplers.PartialFixedSampler(fixed, sampler) if fixed else sampler


class _Suggest:
    """Optuna's trial as the space's chooser."""

    def __init__(self, trial: optuna.Trial) -> None:
        self._trial = trial

    def choice(self, name: str, labels: Sequence[str]) -> str:
        return self._trial.suggest_categorical(name, list(labels))

    def real(self, name: str, low: float, high: float, *, log: bool) -> float:
        return self._trial.suggest_float(name, low, high, log=log)

    def integer(self, name: str, low: int, high: int, *, log: bool) -> int:
        return self._trial.suggest_int(name, low, high, log=log)


def _drawn(rows: Sequence[FrozenTrial]) -> int:
    """How many rows were drawn so far, from which the seed of the next one follows.

    Rows that wait were not drawn yet, and those that go on with a trial never are: what is
    suggested is the same with and without interruptions.
    """
    return sum(row.state is not TrialState.WAITING and not is_heir(row) for row in rows)
