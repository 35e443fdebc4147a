"""Which rows run in this process, told by beats to all who see the database."""

import time
from collections.abc import Sequence

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from tune_vae.service.ledger.open_study import GRACE_SECONDS, OpenStudy
from tune_vae.service.ledger.patience import DATABASE_ERRORS, patient
from tune_vae.service.owner import owner
from tune_vae.service.rows import has_rival, origin

__all__ = ["Leases"]


class Leases:
    """The rows that run here, by the numbers of their trials in `live`.

    Arguments:
        opened: Their study.
    """

    def __init__(self, opened: OpenStudy) -> None:
        self._opened, self.outages = opened, opened.outages
        self._owner = owner()
        self.live: dict[int, optuna.Trial] = {}
        self._renewed = time.time()

    @patient
    def take(self, study: optuna.Study, row: FrozenTrial) -> bool:
        """Take a row of a study that waits; False if another was faster."""
        try:
            taken = self._opened.storage.set_trial_state_values(row._trial_id, TrialState.RUNNING)
        except UpdateFinishedTrialError:
            return False
        if not taken:
            return False
        self.begin(trial := optuna.Trial(study, row._trial_id))
        if has_rival(row, study.get_trials(deepcopy=False)):
            self.drop(trial)
            return False
        self.live[origin(row)] = trial
        return True

    def begin(self, trial: optuna.Trial) -> None:
        """Lease a row; what is in `live` as well is renewed from then on."""
        # Beat at once: a row without a beat is never found stale.
        self._opened.storage.record_heartbeat(trial._trial_id)
        trial.set_user_attr("owner", self._owner)

    def drop(self, trial: optuna.Trial) -> None:
        """End a row that is one too many."""
        trial.set_user_attr("surplus", True)
        self._opened.tell(trial, state=TrialState.FAIL)

    def renew(self) -> None:
        """See `OptunaLedger.beat`."""
        try:
            for trial in list(self.live.values()):
                self._opened.storage.record_heartbeat(trial._trial_id)
        except DATABASE_ERRORS as error:
            self.outages.note(error)
        else:
            self._renewed = time.time()

    @property
    def may_have_run_out(self) -> bool:
        """Whether they were not renewed for so long that somebody may have taken a row."""
        return time.time() - self._renewed > GRACE_SECONDS / 2

    @property
    def rows(self) -> set[int]:
        """Optuna's numbers of the rows that run here, which are unique over all studies."""
        return {trial._trial_id for trial in self.live.values()}

    def run_elsewhere(self, rows: Sequence[FrozenTrial]) -> bool:
        """Whether some of these rows run in another process."""
        running = {row._trial_id for row in rows if row.state is TrialState.RUNNING}
        return bool(running - self.rows)
