"""The truth about a study, kept in Optuna's storage.

A trial's number is that of its first row. A row that was interrupted ends as FAIL, and a WAITING
row takes over its parameters and its number; the two are one trial. Collapsed and diverged
trials are told as PRUNED, never as FAIL: TPE ignores failed rows and is drawn to where they
died. So is a point that is dead by the data's spectrum: it is drawn, told and not trained, and is
no trial.

Repeats of finalists are rows of a study of their own beside it, `<name>/repeats`, which has no
sampler: several rows of one point would mislead it, and what it suggests is the same with and
without them.
"""

import contextlib
import functools
import math
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec, TypeVar

import optuna
import sqlalchemy
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage, fail_stale_trials
from optuna.trial import FrozenTrial, TrialState

from tune_vae.errors import StorageError, StudyError, masked
from tune_vae.science.collapse_point import CollapsePoints
from tune_vae.science.health import Kind, Verdict
from tune_vae.science.history import EpochReport
from tune_vae.service import databases
from tune_vae.service.foretold import foretold
from tune_vae.service.journey import Decision, Fault, TrialResult
from tune_vae.service.owner import is_dead, owner
from tune_vae.service.pareto_pruner import ParetoPruner, is_vector, report_vector, vectors_of
from tune_vae.service.plugins import pruner_of, quiet, sampler_of
from tune_vae.service.reading import REPORTS, plain_rows
from tune_vae.service.rows import (
    TrialRow,
    firsts,
    graph_of,
    has_rival,
    is_again,
    is_constant_again,
    is_foretold,
    is_heir,
    is_interrupted,
    is_stillborn,
    is_surplus,
    memory_limit,
    most_in_a_pack,
    origin,
    plain,
    table,
    texts,
)
from tune_vae.spec.known_good import known_good
from tune_vae.spec.study import StudySpec
from tune_vae.spec.trial import TrialConfig

__all__ = ["OptunaLedger", "data_digest", "read_bounds", "read_rows", "read_study"]

HEARTBEAT_SECONDS = 15
GRACE_SECONDS = 90
PATIENCE_SECONDS = 300
"""How long a running search waits for a database that does not answer."""
REDRAWS = 100
"""How often a point that is foretold dead is drawn again before one is trained all the same."""
RUNG = "completed_rung_"
ERRORS_IN_A_ROW = 5
"""After so many trials that broke one after the other, the fault is not in the trials."""

_DATABASE_ERRORS = (StorageInternalError, sqlalchemy.exc.SQLAlchemyError)

_P = ParamSpec("_P")
_T = TypeVar("_T")


def _patient(
    method: Callable[Concatenate["OptunaLedger", _P], _T],
) -> Callable[Concatenate["OptunaLedger", _P], _T]:
    """A method that is repeated while the database does not answer.

    A restart of the database must not look like a fault of the trials that meet it.
    """

    @functools.wraps(method)
    def patient(self: "OptunaLedger", /, *args: _P.args, **options: _P.kwargs) -> _T:
        wait, deadline = 0.25, time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                answer = method(self, *args, **options)
            except _DATABASE_ERRORS as error:
                self._note_outage(error)
                if time.monotonic() + wait > deadline:
                    raise _unreachable(self._spec, error) from error
            else:
                if self.trouble:
                    self.trouble, self._back = "", time.monotonic()
                return answer
            time.sleep(wait)
            wait = min(2 * wait, 10.0)

    return patient


class OptunaLedger:
    """A study's rows. Only one per process; safe to call from several threads.

    Arguments:
        spec: The study.
        shape, levels, digest, classes: Of its data. A study goes on with the data it began with.
        points: Beyond which KL weights its data leave no latent alive; None if not known.

    Raises:
        StorageError: The storage cannot be opened.
        StudyError: The study was begun with another space or other data.
    """

    def __init__(
        self,
        spec: StudySpec,
        *,
        shape: tuple[int, int, int],
        levels: int | None,
        digest: str,
        classes: int = 0,
        points: CollapsePoints | None = None,
    ) -> None:
        self._spec, self._points = spec, points
        self._shape, self._levels, self._classes = shape, levels, classes
        self._live: dict[int, optuna.Trial] = {}
        self._spare: list[TrialConfig] = []
        self._faults: list[str] = []
        self._known: tuple[dict[int, TrialRow], dict[int, TrialRow]] = ({}, {})
        self._lock = threading.RLock()
        self.trouble, self._back = "", -math.inf
        self._owner = owner()
        self._storage, self._study = _open(spec)
        self._repeats = _repeats_of(spec, self._storage)
        self._agree(digest)
        self._study.set_user_attr("study_file", masked(spec.text))
        self._enqueue_known_good()

    def _agree(self, data: str) -> None:
        """Refuse to mix trials that could not be compared.

        Raises:
            StudyError: With every setting that differs from what the study was begun with.
        """
        # Bounds first: whoever finds a space finds what its `auto` came to.
        mine = {"bounds": self._spec.bounds, "space": self._spec.space_digest(), "data": data}
        theirs = self._study.user_attrs
        if theirs.get("space", mine["space"]) != mine["space"]:
            raise self._refusal(_differences(theirs.get("content"), self._spec.space_content()))
        if theirs.get("data", data) != data:
            raise self._refusal(
                f"contents of the data set, by fingerprint: {theirs['data']} → {data}"
            )
        # Studies that earlier versions began have no content yet.
        for key, value in (mine | {"content": self._spec.space_content()}).items():
            if value is not None and key not in theirs:
                self._study.set_user_attr(key, value)

    def _refusal(self, differences: str) -> StudyError:
        return StudyError(
            f"study `{self._spec.name}` was begun with something else, and its trials could not "
            f"be compared with new ones: {differences}. Restore what it was, or begin a new study "
            f"with the file as it is: tune-vae search {self._spec.file} --fork NEW-NAME. Budget, "
            "health, storage, resources, sampler and pruner may change freely."
        )

    def _enqueue_known_good(self) -> None:
        """Let constants of the literature be the first trials of a study that has none yet.

        Two processes that begin it at the same moment may both do so; see `is_constant_again`.
        """
        rows = self._rows()
        if any("config" in row.user_attrs for row in rows):
            return
        there = {row.user_attrs.get("known_good") for row in rows if not is_stillborn(row)}
        constants = known_good(self._spec, values=math.prod(self._shape))
        for name, parameters in constants[: self._spec.budget.trials]:
            if name not in there:
                self._study.enqueue_trial(parameters, user_attrs={"known_good": name})

    def ask_pack(self, size: int) -> list[TrialConfig] | None:
        """Up to `size` trials of one pack key to run now; None when there is nothing left.

        An interrupted trial comes first and alone, and so does a constant of the literature. An
        empty list means that all that is left runs on another machine, which may yet drop it.

        Raises:
            StudyError: The last few trials all broke.
        """
        with self._lock:
            if self._spare:
                return [self._spare.pop()]
            self._recover()
            self._stop_if_all_break()
            rows = self._rows()
            waiting = any(row.state is TrialState.WAITING for row in rows)
            left = self._spec.budget.trials - len(rows)
            if left < size:
                left = self._spec.budget.trials - len(firsts(rows))
            if not waiting and left <= 0:
                return [] if self._runs_elsewhere(rows) else None
            first = self._ask({}, size)
            if first is None:
                return []
            pack = [first.config]
            if first.again:
                return pack + self._companions(first, size)
            while len(pack) < min(first.most, left):
                more = self._ask(first.graph, size)
                if more is None:
                    break
                # Another machine may drop a trial while a pack is drawn; it has a key of its own.
                (self._spare if more.again or more.most == 1 else pack).append(more.config)
            return pack

    def ask_beside(self, trial: int, places: int) -> list[TrialConfig]:
        """Up to `places` new trials of the pack key of one that was given out; none of repeats.

        Trials that wait to be taken up again come first, in packs of their own; as long as there
        are any, nobody is put beside others.
        """
        with self._lock:
            rows = self._rows()
            mine = [row for row in rows if "config" in row.user_attrs and origin(row) == trial]
            if not mine or self._spare or any(row.state is TrialState.WAITING for row in rows):
                return []
            left = self._spec.budget.trials - len(firsts(rows))
            found: list[TrialConfig] = []
            while len(found) < min(places, left):
                more = self._ask(graph_of(mine[-1]), self._spec.train.pack)
                if more is None:
                    break
                if more.again or more.most == 1:
                    self._spare.append(more.config)
                    break
                found.append(more.config)
            return found

    def _companions(self, first: "_Asked", size: int) -> list[TrialConfig]:
        """Trials that wait to be taken up and may go on in the pack of another."""
        found: list[TrialConfig] = []
        for row in self._waiting():
            fits = (
                is_again(row)
                and min(size, most_in_a_pack(row, 1)) == first.most
                and graph_of(row) == first.graph
            )
            if fits and 1 + len(found) < first.most and self._take_waiting(self._study, row):
                found.append(TrialConfig.model_validate_json(row.user_attrs["config"]))
        return found

    @_patient
    def _waiting(self) -> list[FrozenTrial]:
        return [row for row in self._rows() if row.state is TrialState.WAITING]

    def _runs_elsewhere(self, rows: Sequence[FrozenTrial]) -> bool:
        running = {row._trial_id for row in rows if row.state is TrialState.RUNNING}
        return bool(running - self._mine)

    @property
    def _mine(self) -> set[int]:
        """Optuna's numbers of the rows that run here, which are unique over all studies."""
        return {trial._trial_id for trial in self._live.values()}

    def ask_repeats(self, wanted: Sequence[TrialConfig], size: int) -> list[TrialConfig] | None:
        """Up to `size` repeats of one finalist to run now; None when nothing is left to give out.

        An empty list means that what is left runs on another machine, which may yet drop it.

        Arguments:
            wanted: Every repeat there shall be; those that ended, wait or run are known by their
                numbers.
            size: Most trials of the pack.
        """
        with self._lock:
            if self._repeats is None:
                # Another machine may have begun with it.
                self._repeats = _repeats_of(self._spec, self._storage)
            self._recover()
            rows = self._repeat_rows()
            begun = {origin(row) for row in rows}
            waiting = {origin(row): row for row in rows if row.state is TrialState.WAITING}
            free = [one for one in wanted if one.trial in waiting or one.trial not in begun]
            pack: list[TrialConfig] = []
            most = size
            for config in free:
                mine = self._most_repeats(config, waiting.get(config.trial), rows, size)
                fits = not pack or (config.repeat_of, mine) == (pack[0].repeat_of, most)
                if fits and len(pack) < mine and self._begin_repeat(config):
                    pack.append(config)
                    most = mine
            numbers = {config.trial for config in wanted}
            left = [row for row in self._repeat_rows() if origin(row) in numbers]
            return pack if pack or self._runs_elsewhere(left) else None

    def _most_repeats(
        self, config: TrialConfig, waits: FrozenTrial | None, rows: list[FrozenTrial], size: int
    ) -> int:
        """How many repeats of a finalist may be in the pack of this one."""
        if waits is not None:
            return min(size, most_in_a_pack(waits, size))
        (finalist,) = (row for row in self._rows() if row.number == config.repeat_of)
        return memory_limit([*self._rows(), *rows], graph_of(finalist), size)

    @_patient
    def _begin_repeat(self, config: TrialConfig) -> bool:
        """Take the row of a repeat, adding it where there is none; False if another was faster."""
        if not any(origin(row) == config.trial for row in self._repeat_rows()):
            self._add_repeat(config)
        assert self._repeats is not None
        return any(
            self._take_waiting(self._repeats, row)
            for row in self._repeat_rows()
            if origin(row) == config.trial and row.state is TrialState.WAITING
        )

    def _add_repeat(self, config: TrialConfig) -> None:
        # Two processes may both do so; see `has_rival`.
        (finalist,) = (row for row in self._rows() if row.number == config.repeat_of)
        repeats = self._repeats or _repeats_of(self._spec, self._storage, create=True)
        assert repeats is not None
        repeats.add_trial(
            optuna.create_trial(
                state=TrialState.WAITING,
                params=finalist.params,
                distributions=finalist.distributions,
                user_attrs={"config": config.model_dump_json()},
            )
        )
        self._repeats = repeats

    @_patient
    def _take_waiting(self, study: optuna.Study, row: FrozenTrial) -> bool:
        """Take a row of a study that waits; False if another was faster."""
        try:
            taken = self._storage.set_trial_state_values(row._trial_id, TrialState.RUNNING)
        except UpdateFinishedTrialError:
            return False
        if not taken:
            return False
        self._lease(trial := optuna.Trial(study, row._trial_id))
        if has_rival(row, study.get_trials(deepcopy=False)):
            self._drop(trial)
            return False
        self._live[origin(row)] = trial
        return True

    def _lease(self, trial: optuna.Trial) -> None:
        # Beat at once: a row without a beat is never found stale.
        self._storage.record_heartbeat(trial._trial_id)
        trial.set_user_attr("owner", self._owner)

    def _drop(self, trial: optuna.Trial) -> None:
        """End a row that is one too many."""
        trial.set_user_attr("surplus", True)
        self._tell(trial, state=TrialState.FAIL)

    @_patient
    def _ask(self, fixed: dict[str, Any], size: int) -> "_Asked | None":
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
        row = self._storage.get_trial(trial._trial_id)
        graph = graph_of(row)
        if "config" in attrs:
            # What was interrupted for another reason goes on alone: it may have been its fault.
            most = min(size, most_in_a_pack(row, 1))
        else:
            most = 1 if "known_good" in attrs else memory_limit(rows, graph, size)
        # The last that is done: from here on its lease is renewed.
        self._live[config.trial] = trial
        return _Asked(config, graph, most, again="config" in attrs)

    def _take_next(self, fixed: dict[str, Any]) -> tuple[optuna.Trial, list[FrozenTrial]] | None:
        """A row that waits or a new one, among all rows as they were before it was drawn; None if
        it was one too many.
        """
        before = self._rows()
        self._study.sampler = self._sampler(_drawn(before), fixed)
        with quiet():
            trial = self._study.ask()
        self._lease(trial)
        rows = self._rows()
        row = rows[trial.number]
        if trial.number > len(before):
            # Another machine asked at the same moment, and must not draw the same point.
            self._study.sampler = self._sampler(_drawn(rows[: trial.number]), fixed)
        one_too_many = (
            has_rival(row, rows)
            if "config" in row.user_attrs
            else self._exceeds_budget(row, rows) or is_constant_again(row, rows)
        )
        if one_too_many:
            self._drop(trial)
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
        except _DATABASE_ERRORS:
            raise
        except Exception as error:
            # A sampler may be the user's own, and Optuna's raise ValueError for some spaces.
            self._tell(trial, state=TrialState.FAIL)
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
        self._tell(trial, state=TrialState.PRUNED)

    def _sampler(self, rows: int, fixed: dict[str, Any]) -> optuna.samplers.BaseSampler:
        # A fresh sampler with a seed of (study, rows): one that were made again with the same
        # seed would suggest the same points again after a restart.
        sampler = sampler_of(self._spec, seed_of=f"{self._spec.train.seed} {rows}")
        if isinstance(sampler, optuna.samplers.GridSampler):
            # It notes points by their place in an order that the seed makes.
            sampler = sampler_of(self._spec, seed_of=f"{self._spec.train.seed}")
        with quiet():
            return optuna.samplers.PartialFixedSampler(fixed, sampler) if fixed else sampler

    def attempts(self, trials: Sequence[int]) -> dict[int, int]:
        """Numbers of the rows that train these trials, without those that run here no longer.

        Whoever takes a trial over has a later row, and so a higher number: what is written under
        it cannot be taken for the work of a process that wakes up afterwards.
        """
        with self._lock:
            return {trial: self._live[trial].number for trial in trials if trial in self._live}

    @_patient
    def holds(self, trial: int) -> bool:
        """Whether a trial is still ours, as the database has it now. See `journey.Ledger`."""
        with self._lock:
            mine = self._live.get(trial)
            if mine and self._storage.get_trial(mine._trial_id).state is not TrialState.RUNNING:
                del self._live[trial]
            return trial in self._live

    @_patient
    def place(self, trials: Sequence[int], place: str) -> None:
        """Note where trials run, for people."""
        with self._lock:
            for trial in trials:
                # Lost meanwhile, which the first report tells.
                with contextlib.suppress(UpdateFinishedTrialError):
                    if trial in self._live:
                        self._live[trial].set_user_attr("place", place)

    @_patient
    def report(self, report: EpochReport, verdict: Verdict) -> Decision:
        """Note an epoch; say whether the trial goes on. See `journey.Ledger`."""
        with self._lock:
            trial = self._live.get(report.trial)
            if trial is None:
                return Decision(stop=True)
            try:
                return self._report(trial, report, verdict)
            except UpdateFinishedTrialError:
                # Declared dead while we slept, and taken over elsewhere.
                del self._live[report.trial]
                return Decision(stop=True)

    def _report(self, trial: optuna.Trial, report: EpochReport, verdict: Verdict) -> Decision:
        trial.set_user_attr("epoch", report.epoch)
        if verdict.kind.fatal:
            return Decision(stop=True, verdict=verdict)
        if not report.comparable:
            return Decision()
        values = [report.value(name) for name in self._spec.objective]
        known = self._storage.get_trial(trial._trial_id)
        if len(values) > 1:
            if report.epoch not in vectors_of(known):
                report_vector(trial, values, report.epoch)
        elif math.isnan(values[0]):
            # Optuna's pruners would stop it at once; it may have a value later.
            return Decision()
        elif report.epoch not in known.intermediate_values:
            # The best so far, which is what a trial is told to be worth when it ends; compared by
            # the latest, one that overfits would be stopped though no other were as good.
            best = min([values[0], *known.intermediate_values.values()])
            trial.report(best, report.epoch)
        # A mean over the repeats that no pruner stopped would be too good.
        if report.epoch >= self._spec.train.epochs or trial.study is self._repeats:
            return Decision()
        mine = self._storage.get_trial(trial._trial_id)
        if not self._study.pruner.prune(self._study, mine):
            return Decision()
        hopeless = self._hopeless if len(values) == 1 else self._outranked
        return Decision(stop=True, verdict=hopeless(report, mine))

    def _outranked(self, report: EpochReport, mine: FrozenTrial) -> Verdict:
        names = self._spec.objective
        values = ", ".join(f"{name} {report.value(name):.4g}" for name in names)
        pruner = self._study.pruner
        beside = ""
        if isinstance(pruner, ParetoPruner):
            better, others = pruner.beaten_by(self._study, mine)
            beside = (
                f"; {better} of {others} other trials dominate it there"
                if better
                else f"; it lies close to others on the front of {others + 1} trials there"
            )
        return Verdict(Kind.HOPELESS, f"{values} in epoch {report.epoch}{beside}")

    def _hopeless(self, report: EpochReport, mine: FrozenTrial) -> Verdict:
        best = min(mine.intermediate_values.values())
        others = [
            row.intermediate_values[report.epoch]
            for row in self._rows()
            if row.number != mine.number and report.epoch in row.intermediate_values
        ]
        better = sum(value < best for value in others)
        beside = f"; better by then: {better} of {len(others)} others" if others else ""
        name = self._spec.objective[0]
        return Verdict(Kind.HOPELESS, f"{name} {best:.3f} at best by epoch {report.epoch}{beside}")

    @_patient
    def commit(self, result: TrialResult) -> None:
        """Note the end of a trial and tell the sampler. See `journey.Ledger`."""
        with self._lock:
            trial = self._live.get(result.trial)
            if trial is None:
                return
            try:
                self._commit(trial, result)
            except UpdateFinishedTrialError:
                # Taken over elsewhere, where it ends as well.
                pass
            del self._live[result.trial]
            self._faults.clear()

    def _commit(self, trial: optuna.Trial, result: TrialResult) -> None:
        kind = result.verdict.kind
        trial.set_user_attr("verdict", kind.value)
        trial.set_user_attr("reason", result.verdict.reason)
        for name, report in (("best", result.best), ("last", result.last)):
            if report:
                trial.set_user_attr(name, plain(report))
        trial.set_user_attr("appraisal", texts(result.appraisal))
        if kind.infeasible:
            trial.set_constraint(kind.value, 1.0)
        whole = len(result.values) == len(self._spec.objective)
        # Told of a NaN, Optuna makes the row a failure, which would look like an interruption.
        if result.finished and whole and not any(map(math.isnan, result.values)):
            self._tell(trial, list(result.values))
        else:
            self._tell(trial, state=TrialState.PRUNED)

    def _tell(
        self,
        trial: optuna.Trial,
        values: list[float] | None = None,
        state: TrialState | None = None,
    ) -> None:
        try:
            trial.study.tell(trial, values, state)
        except RuntimeError:
            # Samplers of finite spaces call `Study.stop` after the last point, which Optuna
            # refuses outside of its own loop; by then it has written the state. Here the budget
            # says when to stop.
            if not self._storage.get_trial(trial._trial_id).state.is_finished():
                raise

    @_patient
    def fail(self, trials: Sequence[int], fault: Fault, reason: str) -> None:
        """End the trials of a worker that broke, or let them wait to be taken up again."""
        with self._lock:
            mine = [number for number in trials if number in self._live]
            for number in mine:
                self._fail(self._live[number], fault, reason, members=len(mine))
                del self._live[number]

    def _fail(self, trial: optuna.Trial, fault: Fault, reason: str, *, members: int) -> None:
        if fault is not Fault.PROGRAM:
            row = self._storage.get_trial(trial._trial_id)
            self._requeue(trial.study, row, reason, **_blame(fault, members))
            return
        try:
            trial.set_user_attr("verdict", Kind.FAILED.value)
            trial.set_user_attr("reason", reason)
            self._tell(trial, state=TrialState.FAIL)
        except UpdateFinishedTrialError:
            return
        self._faults.append(reason)

    def release(self) -> None:
        """Hand over what still runs, to whoever searches this study next.

        Without a database to write this to, the leases run out by themselves.
        """
        with self._lock, contextlib.suppress(*_DATABASE_ERRORS):
            for number in list(self._live):
                self._fail(self._live.pop(number), Fault.PLACE, "interrupted", members=1)

    def beat(self) -> None:
        """Renew the leases of what runs here, which may fail a few times in a row."""
        try:
            with self._lock:
                for trial in list(self._live.values()):
                    self._storage.record_heartbeat(trial._trial_id)
        except _DATABASE_ERRORS as error:
            self._note_outage(error)

    def _note_outage(self, error: Exception) -> None:
        self.trouble = str(_unreachable(self._spec, error))

    def spend(self, seconds: float) -> None:
        """Count time against `budget.hours`, which is of the study, not of one command."""
        with self._lock, contextlib.suppress(*_DATABASE_ERRORS):
            self._study.set_user_attr("spent_seconds", self._spent() + seconds)

    @_patient
    def spent_seconds(self) -> float:
        """Seconds of searching that all commands have counted so far."""
        with self._lock:
            return self._spent()

    def _spent(self) -> float:
        return float(self._study.user_attrs.get("spent_seconds", 0.0))

    @_patient
    def rows(self) -> list[TrialRow]:
        """Every trial of the study once, in the order of their numbers; then the repeats."""
        with self._lock:
            rows, repeats = self._known
            return table(self._rows(), rows) + table(self._repeat_rows(), repeats)

    @_patient
    def foretold(self) -> int:
        """How many points were drawn and not trained; see `foretold`."""
        with self._lock:
            return sum(map(is_foretold, self._rows()))

    def _rows(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def _repeat_rows(self) -> list[FrozenTrial]:
        return self._repeats.get_trials(deepcopy=False) if self._repeats else []

    @_patient
    def _recover(self) -> None:
        """Take over what dead processes left, here or on another machine."""
        # Whoever wakes from a sleep must not take its own trials for a dead machine's.
        self.beat()
        for study in filter(None, (self._study, self._repeats)):
            self._start_missing_beats(study)
            rows, mine = study.get_trials(deepcopy=False), self._mine
            running = [row for row in rows if row.state is TrialState.RUNNING]
            others = [row for row in running if row._trial_id not in mine]
            for row in others:
                if is_dead(row.user_attrs.get("owner", "")):
                    self._requeue(study, row, "its process died")
            # On other machines only silence tells; but while the database was away, none of them
            # could say a word.
            if not self.trouble and time.monotonic() > self._back + 2 * HEARTBEAT_SECONDS:
                with quiet():
                    fail_stale_trials(study)
            self._mend_lineages(study, study.get_trials(deepcopy=False) if others else rows)

    def _start_missing_beats(self, study: optuna.Study) -> None:
        """A row whose process died between asking and its first beat would never be stale."""
        query = sqlalchemy.text(
            "SELECT t.trial_id FROM trials t LEFT JOIN trial_heartbeats h ON h.trial_id = "
            "t.trial_id WHERE t.study_id = :study AND t.state = 'RUNNING' AND h.trial_id IS NULL"
        )
        with self._storage.engine.connect() as connection:
            silent = connection.execute(query, {"study": study._study_id}).scalars().all()
        for trial_id in silent:
            self._storage.record_heartbeat(trial_id)

    def _requeue(self, study: optuna.Study, row: FrozenTrial, reason: str, **why: int) -> None:
        """End an interrupted row and let a WAITING row take over its trial.

        Arguments:
            study, row: Which.
            reason: For people.
            why: More of it, for `_succeed`; see `_blame`.
        """
        try:
            for key, value in {"interrupted": reason, **why}.items():
                self._storage.set_trial_user_attr(row._trial_id, key, value)
            # What was passed over needs but the end that its process had no time to tell.
            end = TrialState.PRUNED if is_foretold(row) else TrialState.FAIL
            self._storage.set_trial_state_values(row._trial_id, end)
        except UpdateFinishedTrialError:
            return
        # Read anew: what was known of the row is from before its end.
        self._succeed(study, self._storage.get_trial(row._trial_id))

    def _mend_lineages(self, study: optuna.Study, rows: list[FrozenTrial]) -> None:
        """Give each interrupted row the successor that its process had no time to add."""
        interrupted = [row for row in rows if is_interrupted(row)]
        if not interrupted:
            return
        newest = {origin(row): row.number for row in rows if not is_surplus(row)}
        for row in interrupted:
            if newest[origin(row)] == row.number:
                self._succeed(study, row)

    def _succeed(self, study: optuna.Study, row: FrozenTrial) -> None:
        """Add the row that goes on with an interrupted one.

        A trial that its interruptions never let finish an epoch may be what breaks its worker;
        after `budget.retries` of them in a row it ends as failed. Those of a pack do not count: it
        is halved until each is alone.
        """
        attrs = row.user_attrs
        if "config" not in attrs:
            return
        epoch = attrs.get("epoch", 0)
        members = attrs.get("members", 1)
        blamed = attrs.get("idle", 0) + (members == 1)
        idle = 0 if epoch > attrs.get("begun", 0) else blamed
        pack = max(1, members // 2) if "members" in attrs else attrs.get("pack")
        kept = {
            "config": attrs["config"],
            "attempts": attrs.get("attempts", 1) + 1,
            "epoch": epoch,
            "begun": epoch,
            "idle": idle,
        } | ({"pack": pack} if pack else {})
        kept |= {key: value for key, value in attrs.items() if is_vector(key)}
        # What a pruner of Optuna noted at its rungs; without it, the trial would be judged there
        # again by what it has become since.
        rungs = {key: value for key, value in row.system_attrs.items() if key.startswith(RUNG)}
        given_up = idle > self._spec.budget.retries
        if given_up:
            last = attrs.get("interrupted", "its machine fell silent")
            reason = f"interrupted {idle} times without finishing an epoch: {last}"
            self._faults.append(reason)
            kept |= {"verdict": Kind.FAILED.value, "reason": reason}
        study.add_trial(
            optuna.create_trial(
                state=TrialState.FAIL if given_up else TrialState.WAITING,
                params=row.params,
                distributions=row.distributions,
                user_attrs=kept,
                system_attrs=rungs,
                intermediate_values=row.intermediate_values,
            )
        )

    def _stop_if_all_break(self) -> None:
        # Counted by process: whoever mends the fault may run the same command again.
        if len(self._faults) >= ERRORS_IN_A_ROW:
            raise StudyError(
                f"the last {len(self._faults)} trials all broke; the newest: {self._faults[-1]}"
            )


@dataclass(frozen=True)
class _Asked:
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


def _drawn(rows: Sequence[FrozenTrial]) -> int:
    """How many rows were drawn so far, from which the seed of the next one follows.

    Rows that wait were not drawn yet, and those that go on with a trial never are: what is
    suggested is the same with and without interruptions.
    """
    return sum(row.state is not TrialState.WAITING and not is_heir(row) for row in rows)


def _blame(fault: Fault, members: int) -> dict[str, int]:
    """What a row that broke says of the pack it was in."""
    if fault is Fault.PLACE:
        return {}
    return {"members": members, "out_of_memory": int(fault is Fault.MEMORY)}


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


def read_rows(spec: StudySpec) -> list[TrialRow] | None:
    """The trials of a study, without joining it; None when it was never begun.

    Raises:
        StorageError: The storage cannot be opened.
    """
    found = read_study(spec)
    return found and found[0]


def read_study(spec: StudySpec, *, reports: bool = True) -> tuple[list[TrialRow], int] | None:
    """The trials of a study and how many points were drawn and not trained, without joining it.

    Arguments:
        spec: The study.
        reports: Whether the trials' reports are wanted, which take most of the time.

    Returns:
        None when it was never begun.

    Raises:
        StorageError: The storage cannot be opened.
    """

    def read(engine: sqlalchemy.Engine) -> tuple[list[TrialRow], int] | None:
        without = () if reports else REPORTS
        rows = plain_rows(engine, spec.name, without=without)
        if rows is None:
            return None
        repeats = plain_rows(engine, _name_of_repeats(spec), without=without) or []
        return table(rows) + table(repeats), sum(map(is_foretold, rows))

    return _look(spec, read)


def data_digest(spec: StudySpec) -> str | None:
    """Fingerprint of the data that a study was begun with; None when it never was.

    Raises:
        StorageError: The storage cannot be opened.
    """
    return _look_at_study(spec, lambda study: study.user_attrs.get("data"))


def read_bounds(spec: StudySpec) -> tuple[float, float] | None:
    """What `beta_norm: auto` came to when a study began; None if it never did.

    Raises:
        StorageError: The storage cannot be opened.
    """
    bounds = _look_at_study(spec, lambda study: study.user_attrs.get("bounds"))
    return (bounds[0], bounds[1]) if bounds else None


def _look_at_study(spec: StudySpec, at: Callable[[optuna.Study], _T]) -> _T | None:
    def look(_: sqlalchemy.Engine) -> _T:
        return at(optuna.load_study(study_name=spec.name, storage=_storage(spec.storage.ledger)))

    return _look(spec, look)


def _look(spec: StudySpec, at: Callable[[sqlalchemy.Engine], _T | None]) -> _T | None:
    try:
        # Optuna would create what is missing, and disturb a search that is creating it; this is
        # the last of its tables.
        if not databases.has_table(spec.storage.ledger, "alembic_version"):
            return None
        with databases.opened(spec.storage.ledger) as engine:
            return at(engine)
    except KeyError:
        return None
    except (*_DATABASE_ERRORS, ImportError, ValueError) as error:
        raise _unreachable(spec, error) from None


def _open(spec: StudySpec) -> tuple[RDBStorage, optuna.Study]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    url = spec.storage.ledger
    databases.reach(url, "storage.ledger")
    # Two processes that create the tables of a new database at the same moment disturb each
    # other; the second finds them when it tries again.
    for attempt in range(5):
        try:
            storage = _storage(url)
            study = optuna.create_study(
                storage=storage,
                study_name=spec.name,
                load_if_exists=True,
                directions=["minimize"] * len(spec.objective),
                pruner=pruner_of(spec),
            )
        except _DATABASE_ERRORS as error:
            failure = error
            time.sleep(0.3 * 2**attempt)
        else:
            return storage, study
    raise _unreachable(spec, failure) from None


def _repeats_of(
    spec: StudySpec, storage: RDBStorage, *, create: bool = False
) -> optuna.Study | None:
    """The study of the repeats beside a study, which exists once one was asked for."""
    # Never asked: what a repeat is made of comes with its row.
    sampler, name = optuna.samplers.RandomSampler(), _name_of_repeats(spec)
    if create:
        return optuna.create_study(
            storage=storage,
            study_name=name,
            load_if_exists=True,
            directions=["minimize"] * len(spec.objective),
            sampler=sampler,
        )
    try:
        return optuna.load_study(study_name=name, storage=storage, sampler=sampler)
    except KeyError:
        return None


def _name_of_repeats(spec: StudySpec) -> str:
    # A slash is in no study's name.
    return f"{spec.name}/repeats"


def _storage(url: str) -> RDBStorage:
    with quiet():
        storage = RDBStorage(
            url,
            engine_kwargs={
                "connect_args": databases.connect_args(url),
                "pool_pre_ping": databases.sqlite_file(url) is None,
            },
            heartbeat_interval=HEARTBEAT_SECONDS,
            grace_period=GRACE_SECONDS,
        )
    databases.configure(storage.engine)
    # Servers count connections, and Optuna closes none.
    weakref.finalize(storage, storage.engine.dispose)
    return storage


def _unreachable(spec: StudySpec, error: Exception) -> StorageError:
    return databases.unreachable(spec.storage.ledger, "storage.ledger", error)


def _differences(theirs: dict[str, str] | None, mine: dict[str, str]) -> str:
    """The settings that changed, each as `place: old → new`."""
    if theirs is None:
        return "another search space, epochs, seed or objective"
    places = [place for place in theirs | mine if theirs.get(place) != mine.get(place)]
    changes = [
        f"{place}: {theirs.get(place, 'the default')} → {mine.get(place, 'the default')}"
        for place in places
    ]
    return "; ".join(changes) or "a number, in a digit that is not shown"
