"""The owner of a search: the only one who writes to ledger and tracker.

It lives on the driver's machine and dies with the driver. Workers speak to it through a handle
with the methods of `journey.Ledger` and `journey.Tracker`, so that they hold no database
address and import neither Optuna nor MLflow.
"""

import contextlib
import functools
import math
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tune_vae.errors import StorageError, StudyError
from tune_vae.science.collapse_point import CollapsePoints
from tune_vae.science.health import Kind, Verdict
from tune_vae.science.history import EpochReport, Rollback
from tune_vae.service.ahead import Ahead, Drawn
from tune_vae.service.journey import Decision, Fault, TrialResult, conclusion, history_of
from tune_vae.service.owner import end
from tune_vae.service.results import StudyResults
from tune_vae.service.rows import TrialRow
from tune_vae.spec.known_good import KnownGood
from tune_vae.spec.study import StudySpec
from tune_vae.spec.trial import TrialConfig
from tune_vae.training.checkpoint import CheckpointStore, try_out

__all__ = ["DataFacts", "Desk", "Ended", "Running", "Snapshot"]

HURRY_SECONDS = 60.0
"""Within which an interrupted search lets MLflow have what it can."""


@dataclass(frozen=True)
class DataFacts:
    """What must be known of the data without loading it; see `Splits` and `CollapsePoints`.

    `seen` is what scouts found good for them.
    """

    shape: tuple[int, int, int]
    levels: int | None
    digest: str
    classes: int = 0
    points: CollapsePoints | None = None
    seen: tuple[KnownGood, ...] = ()


@dataclass(frozen=True)
class Running:
    """A trial that runs here, for the terminal."""

    config: TrialConfig
    started: float
    report: EpochReport | None = None
    verdict: Verdict | None = None
    rates: tuple[float, ...] = ()


@dataclass(frozen=True)
class Ended:
    """A trial that ended during this search, for the terminal."""

    config: TrialConfig
    verdict: Verdict
    values: tuple[float, ...]
    is_best: bool


@dataclass(frozen=True)
class Snapshot:
    """What the terminal shows. `ended` holds those since the number that was asked for, `remarks`
    what was remarked of trainings since; see `errors.Remark`.
    """

    results: StudyResults
    running: tuple[Running, ...] = ()
    ended: tuple[Ended, ...] = ()
    epoch_seconds: float | None = None
    trouble: str = ""
    remarks: tuple[str, ...] = ()


@dataclass
class _Board:
    """What runs now, when its workers were last heard of, and what has ended."""

    running: dict[int, Running] = field(default_factory=dict)
    heard: dict[int, float] = field(default_factory=dict)
    ended: list[Ended] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    epochs: int = 0
    seconds: float = 0.0


class Desk:
    """Asks, reports, prunes, tells, logs and recovers, for one search.

    Arguments:
        spec: The study.
        facts: Of its data.
        confirm: Whether only repeats of finalists are given out, and no trials.

    Raises:
        StorageError: The ledger or the place for checkpoints cannot be used.
        StudyError: The study was begun with another space or other data.
    """

    def __init__(self, spec: StudySpec, facts: DataFacts, *, confirm: bool = False) -> None:
        # Imported here: workers know this class by name only, and need neither library.
        from tune_vae.service.ledger.open_study import GRACE_SECONDS, HEARTBEAT_SECONDS
        from tune_vae.service.ledger.optuna_ledger import OptunaLedger
        from tune_vae.service.tracking import MlflowTracker

        spec.enable_imports()
        self._spec, self._confirm = spec, confirm
        self._beat_seconds, self._grace_seconds = HEARTBEAT_SECONDS, GRACE_SECONDS
        # At once, whereas a training waits for a place that does not answer for a while.
        try_out(spec.storage.checkpoints)
        self._store = CheckpointStore(spec.storage.checkpoints, spec.name)
        self._ledger = OptunaLedger(
            spec,
            shape=facts.shape,
            levels=facts.levels,
            digest=facts.digest,
            classes=facts.classes,
            points=facts.points,
            seen=facts.seen,
        )
        self._tracker = MlflowTracker(
            spec, digest=facts.digest, store=self._store, is_lost=self._ledger.is_lost
        )
        self._board = _Board()
        self._lock = threading.Lock()
        self._counted = time.monotonic()
        self._closing = threading.Event()
        self._stopping = False
        self._workers: dict[int, str] = {}
        self._stuck: dict[str, float] = {}
        self._awake = time.time()
        self._given: dict[str, dict[int, int]] = {}
        self._full: set[str] = set()
        self._buried: set[str] = set()
        self._refusal: StudyError | None = None
        self._ahead = Ahead(self._draw)
        self._ends = 0
        self._ended = threading.Condition()
        self._rows: list[TrialRow] = []
        self._foretold = 0
        self._look()
        self._mend()
        self._heart = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._heart.start()

    def _mend(self) -> None:
        """Complete what is shown of trials that ended just before a kill."""
        unpublished = self._store.unpublished()
        for row in self._rows:
            if row.ended and row.trial in unpublished:
                self._publish(row)
            if row.ended and row.kind == Kind.FAILED.value:
                self._tracker.fail(row.config, row.reason)
            elif row.ended:
                self._tracker.mend(row.config, functools.partial(self._end_of, row))

    def _end_of(self, row: TrialRow) -> tuple[TrialResult, list[EpochReport]] | None:
        """How a trial ended and all its epochs, if its checkpoint is still there."""
        history = history_of(row.config, self._store.last(row.trial))
        if not len(history):
            return None
        result = conclusion(row.config, history, Verdict(Kind(row.kind), row.reason))
        return replace(result, appraisal=row.appraisal), list(history)

    def _look(self) -> None:
        self._rows, self._foretold = self._ledger.look()

    def _publish(self, row: TrialRow) -> None:
        self._store.publish(row.trial, row.best.epoch if row.best else None)

    def ask(self) -> list[TrialConfig] | None:
        """The next pack; None when nothing is left, empty when one must wait.

        Raises:
            StudyError: The last few trials all broke.
        """
        if self._stopping:
            return None
        drawn = self._ahead.now()
        pack = drawn.pack if drawn else self._ask_repeats()
        self._open(pack or [])
        return pack

    def _draw(self) -> Drawn | None:
        """The next pack of trials; None when no more are begun."""
        with self._ended:
            # The sampler shall know them.
            self._ended.wait_for(lambda: not self._ends, timeout=self._beat_seconds)
        pack = None if self._stopping else self._ask_trials()
        if pack is None:
            return None
        return Drawn(pack, self._ledger.attempts([config.trial for config in pack]))

    def _open(self, pack: Sequence[TrialConfig]) -> None:
        for config in pack:
            self._tracker.open(config)
            with self._lock:
                self._board.running[config.trial] = Running(config, time.time())

    def take(
        self, worker: str, process: str = "", device: str = ""
    ) -> tuple[list[TrialConfig], dict[int, int]] | None:
        """The next pack as by `give`, if it was drawn ahead; else None. Waits for nobody."""
        drawn = None if self._stopping else self._ahead.take(worker)
        if drawn is None:
            return None
        self._open(drawn.pack)
        self._begin(worker, drawn.pack)
        self._hold(drawn.attempts, process)
        given = self._hand_over(worker, drawn.pack, drawn.attempts)
        self._ahead.prepare(lambda: self._place(drawn.attempts, process, device))
        return given

    def give(
        self, worker: str, process: str = "", device: str = ""
    ) -> tuple[list[TrialConfig], dict[int, int]] | None:
        """The next pack for a worker, as `ask`, with the numbers of its trials' attempts.

        Arguments:
            worker: Its name among the workers of this search.
            process, device: See `attempts`.

        Raises:
            StudyError: The last few trials all broke; `has_work` raises it again.
        """
        try:
            pack = self.ask()
        except StudyError as error:
            self._refusal = error
            raise
        self._begin(worker, pack or [])
        if pack is None:
            return None
        attempts = self.attempts([config.trial for config in pack], process, device)
        self._ahead.prepare()
        return self._hand_over(worker, pack, attempts)

    def _begin(self, worker: str, pack: Sequence[TrialConfig]) -> None:
        """A worker has ended what it had, and gets this."""
        with self._lock:
            self._given[worker] = {}
            self._full.discard(worker)
            if pack and len(pack) == self._spec.train.pack:
                self._full.add(worker)

    def refill(
        self, worker: str, beside: int, places: int, process: str = "", device: str = ""
    ) -> tuple[list[TrialConfig], dict[int, int]]:
        """Trials for free places of a worker's pack, as `give`; none for one that began smaller.

        One that is known to be good begins alone, as do those of a pack that ran out of memory. In
        a place of theirs trial would follow trial, one at a time.

        Arguments:
            worker: Who asks.
            beside: A trial of the pack.
            places: Most that are wanted.
            process, device: See `attempts`.
        """
        if worker not in self._full or self._stopping or self._confirm:
            return [], {}
        if self._out_of_time() or self._results().stalled:
            return [], {}
        pack = self._ledger.ask_beside(beside, places)
        self._open(pack)
        attempts = self.attempts([config.trial for config in pack], process, device)
        return self._hand_over(worker, pack, attempts)

    def _hand_over(
        self, worker: str, pack: Sequence[TrialConfig], attempts: dict[int, int]
    ) -> tuple[list[TrialConfig], dict[int, int]]:
        with self._lock:
            self._given.setdefault(worker, {}).update(attempts)
            dead = worker in self._buried
        if dead:
            # It died while it was served.
            self.fail(attempts, Fault.PLACE, "its worker died")
            return [], {}
        # Not those that were handed over meanwhile.
        return [config for config in pack if config.trial in attempts], attempts

    def bury(self, worker: str) -> bool:
        """A worker died; whether it had trials."""
        with self._lock:
            self._buried.add(worker)
            attempts = self._given.pop(worker, {})
        self.fail(attempts, Fault.PROCESS, "its worker died")
        return bool(attempts)

    def _ask_trials(self) -> list[TrialConfig] | None:
        if self._confirm or self._out_of_time() or self._results().stalled:
            return None
        return self._ledger.ask_pack(self._spec.train.pack)

    def _ask_repeats(self) -> list[TrialConfig] | None:
        """The same for repeats of the finalists, who are known when no trial runs any more."""
        if self._spec.budget.seeds == 1:
            return None
        with self._lock:
            here = any(one.config.repeat_of is None for one in self._board.running.values())
        if here:
            return []
        self._look()
        results = self._results()
        if not self._confirm and any(row.state == "running" for row in results.rows):
            return []
        return self._ledger.ask_repeats(results.wanted, self._spec.train.pack)

    def _out_of_time(self) -> bool:
        hours = self._spec.budget.hours
        return (
            hours is not None and self._ledger.spent_seconds() + self._uncounted() > hours * 3600
        )

    def _uncounted(self) -> float:
        """Seconds of searching that the ledger does not know yet."""
        return time.monotonic() - self._counted

    def holds(self, trial: int, attempt: int | None = None) -> bool:
        """See `journey.Ledger.holds`.

        Arguments:
            trial: Its number.
            attempt: The worker's own, see `attempts`. Workers give it with everything they say:
                one that was silent for too long may wake when another has the trial.
        """
        return self._is_current(trial, attempt) and self._ledger.holds(trial)

    def _is_current(self, trial: int, attempt: int | None) -> bool:
        return attempt is None or self._ledger.attempts([trial]).get(trial) == attempt

    def report(
        self, report: EpochReport, verdict: Verdict, attempt: int | None = None
    ) -> Decision:
        """See `journey.Ledger.report`."""
        if not self._is_current(report.trial, attempt):
            return Decision(stop=True)
        decision = self._ledger.report(report, verdict)
        with self._lock:
            running = self._board.running.get(report.trial)
            if running:
                self._board.running[report.trial] = Running(
                    running.config,
                    running.started,
                    report,
                    verdict,
                    (*running.rates, report.rate_nats),
                )
            if decision.stop and decision.verdict is None:
                # It goes on elsewhere.
                self._forget(report.trial)
            self._board.epochs += 1
            self._board.seconds += report.seconds
        return decision

    def log(self, report: EpochReport, verdict: Verdict) -> None:
        """See `journey.Tracker.log`."""
        self._tracker.log(report, verdict)

    def remark(self, text: str) -> None:
        """Something that people should know of a training; see `errors.Remark`."""
        with self._lock:
            if text not in self._board.remarks:
                self._board.remarks.append(text)

    def roll_back(self, trial: int, rollbacks: Sequence[Rollback]) -> None:
        """See `journey.Tracker.roll_back`."""
        self._tracker.roll_back(trial, rollbacks)

    def conclude(self, result: TrialResult, attempt: int | None = None) -> None:
        """See `journey.Tracker.conclude`."""
        if self._is_current(result.trial, attempt):
            self._tracker.conclude(result)

    def commit(self, result: TrialResult, attempt: int | None = None) -> None:
        """See `journey.Ledger.commit`."""
        with self._ending():
            if self._is_current(result.trial, attempt):
                self._commit(result)

    @contextlib.contextmanager
    def _ending(self) -> Iterator[None]:
        """While something is written of which those must know who ask or close."""
        with self._ended:
            self._ends += 1
        try:
            yield
        finally:
            with self._ended:
                self._ends -= 1
                self._ended.notify_all()

    def _commit(self, result: TrialResult) -> None:
        before = self._results().winner
        self._ledger.commit(result)
        self._look()
        for row in self._rows:
            # Not one that another machine took over and goes on with.
            if row.trial == result.trial and row.ended:
                # The next search does it, should the place not answer now.
                with contextlib.suppress(StorageError):
                    self._publish(row)
        winner = self._results().winner
        with self._lock:
            running = self._forget(result.trial)
            if running:
                better = winner is not None and winner.trial == result.trial
                self._board.ended.append(
                    Ended(
                        running.config,
                        result.verdict,
                        result.values,
                        better and (before is None or before.trial != result.trial),
                    )
                )

    def attempts(
        self, trials: Sequence[int], worker: str = "", device: str = ""
    ) -> dict[int, int]:
        """The numbers of these trials' attempts, for those that are still ours to train.

        Arguments:
            trials: Which.
            worker: Who is about to train them, see `owner`; it must show that it lives from now
                on. Before a worker begins, its trials are held for it.
            device: What on.
        """
        found = self._ledger.attempts(trials)
        if worker:
            self._place(found, worker, device)
            self._hold(found, worker)
        return found

    def _place(self, trials: Iterable[int], worker: str, device: str) -> None:
        if worker:
            self._ledger.place(list(trials), f"{worker.partition(' ')[0]}, {device}")

    def _hold(self, trials: Iterable[int], worker: str) -> None:
        """A worker must show from now on that it lives."""
        with self._lock:
            self._workers |= dict.fromkeys(trials, worker)
        self.alive(worker, list(trials))

    def alive(self, worker: str, trials: Sequence[int] | None) -> None:
        """A worker lives, and trains these; None if it does not know yet which it was given."""
        with self._lock:
            self._stuck.pop(worker, None)
            mine = [
                trial
                for trial, owner in self._workers.items()
                if owner == worker and (trials is None or trial in trials)
            ]
            self._board.heard |= dict.fromkeys(mine, time.time())

    def _let_go_of_silent(self) -> None:
        """Hand over the trials of workers that showed no life for as long as a lease lasts.

        A worker that is stopped would keep its trial for ever, and its place in the search. One
        that still says nothing after the same time again is ended, if it is on this machine.
        """
        now = time.time()
        asleep = now - self._awake > 3 * self._beat_seconds
        self._awake = now
        with self._lock:
            if asleep or self._ledger.trouble:
                # We slept or waited ourselves, and could not have heard.
                self._board.heard = dict.fromkeys(self._board.heard, now)
            limit = now - self._grace_seconds
            silent = [trial for trial, heard in self._board.heard.items() if heard < limit]
            self._stuck |= {self._workers[trial]: now for trial in silent}
            hopeless = [worker for worker, since in self._stuck.items() if since < limit]
        if silent:
            self.fail(self._ledger.attempts(silent), Fault.PLACE, "its worker fell silent")
        with self._lock:
            for trial in silent:
                self._forget(trial)
            for worker in hopeless:
                self._stuck.pop(worker, None)
        for worker in hopeless:
            end(worker)

    def _forget(self, trial: int) -> Running | None:
        self._board.heard.pop(trial, None)
        self._workers.pop(trial, None)
        return self._board.running.pop(trial, None)

    def fail(self, attempts: Mapping[int, int], fault: Fault, reason: str) -> None:
        """A worker broke with these attempts, by trial."""
        current = self._ledger.attempts(list(attempts))
        trials = [trial for trial, attempt in attempts.items() if current.get(trial) == attempt]
        with self._lock:
            gone = [self._forget(trial) for trial in trials]
        mine = [one.config.trial for one in gone if one]
        self._ledger.fail(mine, fault, reason)
        self._look()
        # One that was interrupted too often ends as well.
        for row in self._rows:
            if row.ended and row.trial in mine:
                self._tracker.fail(row.config, row.reason)
                verdict = Verdict(Kind(row.kind), row.reason)
                with self._lock:
                    self._board.ended.append(Ended(row.config, verdict, (), False))

    def has_work(self) -> bool:
        """Whether trials are left that nobody runs or that another machine may yet drop.

        Raises:
            StudyError: No more trials are given out, because the last few all broke.
        """
        if self._refusal:
            raise self._refusal
        self._look()
        results = self._results()
        if results.pending:
            return True
        if self._confirm or self._out_of_time() or results.stalled:
            return False
        unended = any(not row.ended for row in results.rows)
        return unended or len(results.rows) < self._spec.budget.trials

    def stop(self) -> None:
        """Give out no more trials."""
        self._stopping = True

    def snapshot(self, since: int, told: int = 0) -> Snapshot:
        """What the terminal shows, with the trials that ended after the first `since` and what
        was remarked after the first `told`.
        """
        with self._lock:
            board = self._board
            running, ended = tuple(board.running.values()), tuple(board.ended[since:])
            remarks = tuple(board.remarks[told:])
            mean = board.seconds / board.epochs if board.epochs else None
        return Snapshot(
            results=self._results(),
            running=running,
            ended=ended,
            epoch_seconds=mean,
            trouble=self._ledger.trouble or self._tracker.trouble,
            remarks=remarks,
        )

    def _results(self) -> StudyResults:
        return StudyResults.of(self._spec, self._rows, foretold=self._foretold)

    def close(self, note: str = "", *, hurry: bool = False) -> bool:
        """Hand over what still runs, finish the pages; whether all of them were finished.

        Arguments:
            note: What MLflow's page shall say of the study.
            hurry: Whether somebody waits for the end, so that a page may be left to the next
                search though MLflow answers.
        """
        # As in the beginning, for the sake of workers.
        from tune_vae.service import databases

        self._closing.set()
        self._ahead.close()
        with self._ended:
            # Whoever trained it may be gone already.
            self._ended.wait_for(lambda: not self._ends, timeout=HURRY_SECONDS)
        self._ledger.release()
        self._ledger.spend(self._uncounted())
        for finalist in self._results().finalists:
            if finalist.ended:
                self._tracker.tag(finalist.row.trial, "seeds", str(finalist))
        if note:
            self._tracker.note(note)
        finished = self._tracker.close(limit=HURRY_SECONDS if hurry else math.inf)
        for store in (self._spec.storage.ledger, self._spec.storage.tracking):
            databases.settle(store)
        return finished

    def _beat(self) -> None:
        while not self._closing.wait(self._beat_seconds):
            # A database that does not answer is told by the calls of the trials.
            with contextlib.suppress(StorageError):
                self._let_go_of_silent()
                self._ledger.beat()
                self._ledger.spend(self._uncounted())
                self._counted = time.monotonic()
                self._look()
