"""Packs of trials to run now: what waits to be taken up again, then new trials of one pack key."""

from optuna.trial import FrozenTrial, TrialState

from tune_vae.service.ledger.drawing import Asked, Draws
from tune_vae.service.ledger.leases import Leases
from tune_vae.service.ledger.open_study import OpenStudy
from tune_vae.service.ledger.patience import patient
from tune_vae.service.ledger.recovery import Recovery
from tune_vae.service.rows import firsts, graph_of, is_again, most_in_a_pack, origin
from tune_vae.spec.trial import TrialConfig

__all__ = ["Packs"]


class Packs:
    """What is given out of a study.

    Arguments:
        opened: The study.
        leases: What runs here.
        recovery: What is taken up again.
        draws: Where new trials come from.
    """

    def __init__(
        self, opened: OpenStudy, leases: Leases, recovery: Recovery, draws: Draws
    ) -> None:
        self._opened, self._leases, self.outages = opened, leases, opened.outages
        self._recovery, self._draws = recovery, draws
        self._spec = opened.spec
        self._spare: list[TrialConfig] = []

    def ask(self, size: int) -> list[TrialConfig] | None:
        """See `OptunaLedger.ask_pack`."""
        if self._spare:
            return [self._spare.pop()]
        self._recovery.recover()
        self._recovery.stop_if_all_break()
        rows = self._opened.rows()
        waiting = any(row.state is TrialState.WAITING for row in rows)
        left = self._spec.budget.trials - len(rows)
        if left < size:
            left = self._spec.budget.trials - len(firsts(rows))
        if not waiting and left <= 0:
            return [] if self._leases.run_elsewhere(rows) else None
        first = self._draws.ask({}, size)
        if first is None:
            return []
        pack = [first.config]
        if first.again:
            return pack + self._companions(first, size)
        while len(pack) < min(first.most, left):
            more = self._draws.ask(first.graph, size)
            if more is None:
                break
            # Another machine may drop a trial while a pack is drawn; it has a key of its own.
            (self._spare if more.again or more.most == 1 else pack).append(more.config)
        return pack

    def beside(self, trial: int, places: int) -> list[TrialConfig]:
        """See `OptunaLedger.ask_beside`."""
        rows = self._opened.rows()
        mine = [row for row in rows if "config" in row.user_attrs and origin(row) == trial]
        if not mine or self._spare or any(row.state is TrialState.WAITING for row in rows):
            return []
        left = self._spec.budget.trials - len(firsts(rows))
        found: list[TrialConfig] = []
        while len(found) < min(places, left):
            more = self._draws.ask(graph_of(mine[-1]), self._spec.train.pack)
            if more is None:
                break
            if more.again or more.most == 1:
                self._spare.append(more.config)
                break
            found.append(more.config)
        return found

    def _companions(self, first: Asked, size: int) -> list[TrialConfig]:
        """Trials that wait to be taken up and may go on in the pack of another."""
        found: list[TrialConfig] = []
        for row in self._waiting():
            fits = (
                is_again(row)
                and min(size, most_in_a_pack(row, 1)) == first.most
                and graph_of(row) == first.graph
            )
            if fits and 1 + len(found) < first.most and self._leases.take(self._opened.study, row):
                found.append(TrialConfig.model_validate_json(row.user_attrs["config"]))
        return found

    @patient
    def _waiting(self) -> list[FrozenTrial]:
        return [row for row in self._opened.rows() if row.state is TrialState.WAITING]
