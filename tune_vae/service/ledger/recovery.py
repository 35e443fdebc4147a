"""What becomes of a row that broke or whose process died: another one goes on with its trial."""

import optuna
import sqlalchemy
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import fail_stale_trials
from optuna.trial import FrozenTrial, TrialState

from tune_vae.errors import StudyError
from tune_vae.science.health import Kind
from tune_vae.service.journey import Fault
from tune_vae.service.ledger.leases import Leases
from tune_vae.service.ledger.open_study import HEARTBEAT_SECONDS, OpenStudy
from tune_vae.service.ledger.patience import patient
from tune_vae.service.owner import is_dead
from tune_vae.service.pareto_pruner import is_vector
from tune_vae.service.plugins import quiet
from tune_vae.service.rows import is_foretold, is_interrupted, is_surplus, origin

__all__ = ["ERRORS_IN_A_ROW", "Recovery"]

RUNG = "completed_rung_"
ERRORS_IN_A_ROW = 5
"""After so many trials that broke one after the other, the fault is not in the trials."""


class Recovery:
    """Takes trials up again, or gives them up; `faults` is why the last ones broke in a row.

    Arguments:
        opened: Their study.
        leases: What runs here.
    """

    def __init__(self, opened: OpenStudy, leases: Leases) -> None:
        self._opened, self._leases, self.outages = opened, leases, opened.outages
        self.faults: list[str] = []

    @patient
    def recover(self) -> None:
        """Take over what dead processes left, here or on another machine."""
        # Whoever wakes from a sleep must not take its own trials for a dead machine's.
        self._leases.renew()
        for study in filter(None, (self._opened.study, self._opened.repeats)):
            self._start_missing_beats(study)
            rows, mine = study.get_trials(deepcopy=False), self._leases.rows
            running = [row for row in rows if row.state is TrialState.RUNNING]
            others = [row for row in running if row._trial_id not in mine]
            for row in others:
                if is_dead(row.user_attrs.get("owner", "")):
                    self._requeue(study, row, "its process died")
            # On other machines only silence tells; but while the database was away, none of them
            # could say a word.
            if self.outages.over_for(2 * HEARTBEAT_SECONDS):
                with quiet():
                    fail_stale_trials(study)
            self._mend_lineages(study, study.get_trials(deepcopy=False) if others else rows)

    def _start_missing_beats(self, study: optuna.Study) -> None:
        """A row whose process died between asking and its first beat would never be stale."""
        query = sqlalchemy.text(
            "SELECT t.trial_id FROM trials t LEFT JOIN trial_heartbeats h ON h.trial_id = "
            "t.trial_id WHERE t.study_id = :study AND t.state = 'RUNNING' AND h.trial_id IS NULL"
        )
        with self._opened.storage.engine.connect() as connection:
            silent = connection.execute(query, {"study": study._study_id}).scalars().all()
        for trial_id in silent:
            self._opened.storage.record_heartbeat(trial_id)

    def fail(self, trial: optuna.Trial, fault: Fault, reason: str, *, members: int) -> None:
        """End a row that runs here; its trial waits to be taken up again if it broke for no fault
        of its own.

        Arguments:
            trial: The row.
            fault, reason: Why it broke.
            members: Trials of the pack that broke with it.
        """
        if fault is not Fault.PROGRAM:
            row = self._opened.storage.get_trial(trial._trial_id)
            self._requeue(trial.study, row, reason, **_blame(fault, members))
            return
        try:
            trial.set_user_attr("verdict", Kind.FAILED.value)
            trial.set_user_attr("reason", reason)
            self._opened.tell(trial, state=TrialState.FAIL)
        except UpdateFinishedTrialError:
            return
        self.faults.append(reason)

    def _requeue(self, study: optuna.Study, row: FrozenTrial, reason: str, **why: int) -> None:
        """End an interrupted row and let a WAITING row take over its trial.

        Arguments:
            study, row: Which.
            reason: For people.
            why: More of it, for `_succeed`; see `_blame`.
        """
        try:
            for key, value in {"interrupted": reason, **why}.items():
                self._opened.storage.set_trial_user_attr(row._trial_id, key, value)
            # What was passed over needs but the end that its process had no time to tell.
            end = TrialState.PRUNED if is_foretold(row) else TrialState.FAIL
            self._opened.storage.set_trial_state_values(row._trial_id, end)
        except UpdateFinishedTrialError:
            return
        # Read anew: what was known of the row is from before its end.
        self._succeed(study, self._opened.storage.get_trial(row._trial_id))

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
        given_up = idle > self._opened.spec.budget.retries
        if given_up:
            last = attrs.get("interrupted", "its machine fell silent")
            reason = f"interrupted {idle} times without finishing an epoch: {last}"
            self.faults.append(reason)
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

    def stop_if_all_break(self) -> None:
        """Refuse to go on with what cannot succeed.

        Raises:
            StudyError: The last few trials all broke.
        """
        # Counted by process: whoever mends the fault may run the same command again.
        if len(self.faults) >= ERRORS_IN_A_ROW:
            raise StudyError(
                f"the last {len(self.faults)} trials all broke; the newest: {self.faults[-1]}"
            )


def _blame(fault: Fault, members: int) -> dict[str, int]:
    """What a row that broke says of the pack it was in."""
    if fault is Fault.PLACE:
        return {}
    return {"members": members, "out_of_memory": int(fault is Fault.MEMORY)}
