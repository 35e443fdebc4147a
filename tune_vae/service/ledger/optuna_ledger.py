"""The ledger as a search has it: what it asks and tells, by one thread at a time."""

import contextlib
import threading
from collections.abc import Sequence

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from tune_vae.science.collapse_point import CollapsePoints
from tune_vae.science.health import Verdict
from tune_vae.science.history import EpochReport
from tune_vae.service.journey import Decision, Fault, TrialResult
from tune_vae.service.ledger.drawing import Draws
from tune_vae.service.ledger.leases import Leases
from tune_vae.service.ledger.open_study import OpenStudy
from tune_vae.service.ledger.packs import Packs
from tune_vae.service.ledger.patience import DATABASE_ERRORS, patient
from tune_vae.service.ledger.recovery import Recovery
from tune_vae.service.ledger.repeats import Repeats
from tune_vae.service.ledger.telling import note_end, note_epoch
from tune_vae.service.rows import TrialRow, is_foretold, is_surplus, origin, table
from tune_vae.spec.known_good import KnownGood
from tune_vae.spec.study import StudySpec
from tune_vae.spec.trial import TrialConfig

__all__ = ["OptunaLedger"]


class OptunaLedger:
    """A study's rows. Only one per process; safe to call from several threads.

    Arguments:
        spec: The study.
        shape, levels, digest, classes: Of its data. A study goes on with the data it began with.
        points: Beyond which KL weights its data leave no latent alive; None if not known.
        seen: What is known to be good for its data; tried first, see `known_good`.

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
        seen: Sequence[KnownGood] = (),
    ) -> None:
        self._opened = OpenStudy(spec, digest)
        self.outages = self._opened.outages
        self._leases = Leases(self._opened)
        self._live = self._leases.live
        self._let_go: dict[int, int] = {}
        self._recovery = Recovery(self._opened, self._leases)
        draws = Draws(
            self._opened,
            self._leases,
            shape=shape,
            levels=levels,
            classes=classes,
            points=points,
            seen=seen,
        )
        self._packs = Packs(self._opened, self._leases, self._recovery, draws)
        self._repeats = Repeats(self._opened, self._leases, self._recovery)
        self._known: tuple[dict[int, TrialRow], dict[int, TrialRow]] = ({}, {})
        self._lock = threading.RLock()
        draws.enqueue_known_good()

    @property
    def trouble(self) -> str:
        """Why the database does not answer at the moment; empty when it does."""
        return self.outages.trouble

    def ask_pack(self, size: int) -> list[TrialConfig] | None:
        """Up to `size` trials of one pack key to run now; None when there is nothing left.

        An interrupted trial comes first and alone, and so does one that is known to be good. An
        empty list means that all that is left runs on another machine, which may yet drop it.

        Raises:
            StudyError: The last few trials all broke.
        """
        with self._lock:
            return self._packs.ask(size)

    def ask_beside(self, trial: int, places: int) -> list[TrialConfig]:
        """Up to `places` new trials of the pack key of one that was given out; none of repeats.

        Trials that wait to be taken up again come first, in packs of their own; as long as there
        are any, nobody is put beside others.
        """
        with self._lock:
            return self._packs.beside(trial, places)

    def ask_repeats(self, wanted: Sequence[TrialConfig], size: int) -> list[TrialConfig] | None:
        """Up to `size` repeats of one finalist to run now; None when nothing is left to give out.

        An empty list means that what is left runs on another machine, which may yet drop it.

        Arguments:
            wanted: Every repeat there shall be; those that ended, wait or run are known by their
                numbers.
            size: Most trials of the pack.
        """
        with self._lock:
            return self._repeats.ask(wanted, size)

    def attempts(self, trials: Sequence[int]) -> dict[int, int]:
        """Numbers of the rows that train these trials, without those that run here no longer.

        Whoever takes a trial over has a later row, and so a higher number: what is written under
        it cannot be taken for the work of a process that wakes up afterwards.
        """
        with self._lock:
            return {trial: self._live[trial].number for trial in trials if trial in self._live}

    @patient
    def holds(self, trial: int) -> bool:
        """Whether a trial is still ours, as the database has it now. See `journey.Ledger`."""
        with self._lock:
            mine = self._live.get(trial)
            if mine and not self._opened.is_running(mine):
                self._drop(trial)
            return trial in self._live

    @patient
    def is_lost(self, trial: int) -> bool:
        """Whether another process goes on with a trial that was given out here, or has ended it.

        What people see of it is theirs to show. After a sleep this asks the database, before
        anybody here has found out.
        """
        with self._lock:
            if self._leases.may_have_run_out:
                self.holds(trial)
            if trial in self._live or trial not in self._let_go:
                return False
            return any(
                origin(row) == trial
                and row._trial_id > self._let_go[trial]
                and row.state is not TrialState.WAITING
                and not is_surplus(row)
                for row in (*self._opened.rows(), *self._opened.repeat_rows())
            )

    def _drop(self, trial: int) -> optuna.Trial:
        """A trial runs here no longer, and did not end here."""
        mine = self._live.pop(trial)
        self._let_go[trial] = mine._trial_id
        return mine

    @patient
    def place(self, trials: Sequence[int], place: str) -> None:
        """Note where trials run, for people."""
        with self._lock:
            for trial in trials:
                # Lost meanwhile, which the first report tells.
                with contextlib.suppress(UpdateFinishedTrialError):
                    if trial in self._live:
                        self._live[trial].set_user_attr("place", place)

    @patient
    def report(self, report: EpochReport, verdict: Verdict) -> Decision:
        """Note an epoch; say whether the trial goes on. See `journey.Ledger`."""
        with self._lock:
            trial = self._live.get(report.trial)
            if trial is None:
                return Decision(stop=True)
            try:
                return note_epoch(self._opened, trial, report, verdict)
            except UpdateFinishedTrialError:
                # Declared dead while we slept, and taken over elsewhere.
                self._drop(report.trial)
                return Decision(stop=True)

    @patient
    def commit(self, result: TrialResult) -> None:
        """Note the end of a trial and tell the sampler. See `journey.Ledger`."""
        with self._lock:
            trial = self._live.get(result.trial)
            if trial is None:
                return
            try:
                note_end(self._opened, trial, result)
            except UpdateFinishedTrialError:
                # Taken over elsewhere, where it ends as well.
                self._drop(result.trial)
            else:
                del self._live[result.trial]
                self._let_go.pop(result.trial, None)
            self._recovery.faults.clear()

    @patient
    def fail(self, trials: Sequence[int], fault: Fault, reason: str) -> None:
        """End the trials of a worker that broke, or let them wait to be taken up again."""
        with self._lock:
            mine = [number for number in trials if number in self._live]
            for number in mine:
                self._recovery.fail(self._live[number], fault, reason, members=len(mine))
                self._drop(number)

    def release(self) -> None:
        """Hand over what still runs, to whoever searches this study next.

        Without a database to write this to, the leases run out by themselves.
        """
        with self._lock, contextlib.suppress(*DATABASE_ERRORS):
            for number in list(self._live):
                self._recovery.fail(self._drop(number), Fault.PLACE, "interrupted", members=1)

    def beat(self) -> None:
        """Renew the leases of what runs here, which may fail a few times in a row."""
        with self._lock:
            self._leases.renew()

    def spend(self, seconds: float) -> None:
        """Count time against `budget.hours`, which is of the study, not of one command."""
        with self._lock, contextlib.suppress(*DATABASE_ERRORS):
            self._opened.study.set_user_attr("spent_seconds", self._spent() + seconds)

    @patient
    def spent_seconds(self) -> float:
        """Seconds of searching that all commands have counted so far."""
        with self._lock:
            return self._spent()

    def _spent(self) -> float:
        return float(self._opened.study.user_attrs.get("spent_seconds", 0.0))

    @patient
    def look(self) -> tuple[list[TrialRow], int]:
        """Every trial of the study once, in the order of their numbers, then the repeats; and how
        many points were drawn and not trained, see `foretold`.
        """
        with self._lock:
            rows, (known, known_repeats) = self._opened.rows(), self._known
            trials = table(rows, known) + table(self._opened.repeat_rows(), known_repeats)
            return trials, sum(map(is_foretold, rows))
