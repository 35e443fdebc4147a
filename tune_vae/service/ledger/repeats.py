"""Repeats of finalists with other seeds, which are rows of a study of their own."""

from collections.abc import Sequence

import optuna
from optuna.trial import FrozenTrial, TrialState

from tune_vae.service.ledger.leases import Leases
from tune_vae.service.ledger.open_study import OpenStudy
from tune_vae.service.ledger.patience import patient
from tune_vae.service.ledger.recovery import Recovery
from tune_vae.service.rows import graph_of, memory_limit, most_in_a_pack, origin
from tune_vae.spec.trial import TrialConfig

__all__ = ["Repeats"]


class Repeats:
    """What is given out of the repeats of a study.

    Arguments:
        opened: The study.
        leases: What runs here.
        recovery: What is taken up again.
    """

    def __init__(self, opened: OpenStudy, leases: Leases, recovery: Recovery) -> None:
        self._opened, self._leases, self.outages = opened, leases, opened.outages
        self._recovery = recovery

    def ask(self, wanted: Sequence[TrialConfig], size: int) -> list[TrialConfig] | None:
        """See `OptunaLedger.ask_repeats`."""
        self._opened.find_repeats()
        self._recovery.recover()
        rows = self._opened.repeat_rows()
        begun = {origin(row) for row in rows}
        waiting = {origin(row): row for row in rows if row.state is TrialState.WAITING}
        free = [one for one in wanted if one.trial in waiting or one.trial not in begun]
        pack: list[TrialConfig] = []
        most = size
        for config in free:
            mine = self._most(config, waiting.get(config.trial), rows, size)
            fits = not pack or (config.repeat_of, mine) == (pack[0].repeat_of, most)
            if fits and len(pack) < mine and self._begin(config):
                pack.append(config)
                most = mine
        numbers = {config.trial for config in wanted}
        left = [row for row in self._opened.repeat_rows() if origin(row) in numbers]
        return pack if pack or self._leases.run_elsewhere(left) else None

    def _most(
        self, config: TrialConfig, waits: FrozenTrial | None, rows: list[FrozenTrial], size: int
    ) -> int:
        """How many repeats of a finalist may be in the pack of this one."""
        if waits is not None:
            return min(size, most_in_a_pack(waits, size))
        (finalist,) = (row for row in self._opened.rows() if row.number == config.repeat_of)
        return memory_limit([*self._opened.rows(), *rows], graph_of(finalist), size)

    @patient
    def _begin(self, config: TrialConfig) -> bool:
        """Take the row of a repeat, adding it where there is none; False if another was faster."""
        if not any(origin(row) == config.trial for row in self._opened.repeat_rows()):
            self._add(config)
        assert self._opened.repeats is not None
        return any(
            self._leases.take(self._opened.repeats, row)
            for row in self._opened.repeat_rows()
            if origin(row) == config.trial and row.state is TrialState.WAITING
        )

    def _add(self, config: TrialConfig) -> None:
        # Two processes may both do so; see `has_rival`.
        (finalist,) = (row for row in self._opened.rows() if row.number == config.repeat_of)
        self._opened.begin_repeats().add_trial(
            optuna.create_trial(
                state=TrialState.WAITING,
                params=finalist.params,
                distributions=finalist.distributions,
                user_attrs={"config": config.model_dump_json()},
            )
        )
