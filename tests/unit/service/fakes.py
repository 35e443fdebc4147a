"""Ledger and tracker in ten lines each, which write what they are told into one diary."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from tune_vae.science.health import Verdict
from tune_vae.science.history import EpochReport, Rollback
from tune_vae.service.journey import Decision, TrialResult

Event = tuple[str, int, int]
"""What was called, for which trial, in which epoch."""


class KilledError(Exception):
    """Stands for `kill -9`: whatever was to come after it does not happen."""


@dataclass
class Diary:
    """What happened, in order; dies once at the event `fatal`, before anything of it is kept."""

    events: list[Event] = field(default_factory=list)
    fatal: Event | None = None

    def write(self, event: Event) -> None:
        if event == self.fatal:
            self.fatal = None
            raise KilledError(event)
        self.events.append(event)

    def of(self, *kinds: str) -> list[Event]:
        return [event for event in self.events if event[0] in kinds]


class FakeLedger:
    def __init__(self, diary: Diary, decisions: dict[tuple[int, int], Decision]) -> None:
        self._diary, self._decisions = diary, decisions
        self.results: list[TrialResult] = []
        self.lost: set[int] = set()

    def holds(self, trial: int) -> bool:
        return trial not in self.lost

    def report(self, report: EpochReport, verdict: Verdict) -> Decision:
        self._diary.write(("report", report.trial, report.epoch))
        if verdict.kind.fatal:
            return Decision(stop=True, verdict=verdict)
        return self._decisions.get((report.trial, report.epoch), Decision())

    def commit(self, result: TrialResult) -> None:
        self._diary.write(("commit", result.trial, result.last.epoch))
        self.results.append(result)


class FakeTracker:
    def __init__(self, diary: Diary) -> None:
        self._diary = diary
        self.curves: dict[int, dict[int, EpochReport]] = {}
        self.rollbacks: dict[int, tuple[Rollback, ...]] = {}
        self.verdicts: dict[int, dict[int, Verdict]] = {}
        self.results: list[TrialResult] = []

    def log(self, report: EpochReport, verdict: Verdict) -> None:
        curve = self.curves.setdefault(report.trial, {})
        if report.epoch not in curve:
            self._diary.write(("log", report.trial, report.epoch))
            curve[report.epoch] = report
        self.verdicts.setdefault(report.trial, {})[report.epoch] = verdict

    def roll_back(self, trial: int, rollbacks: Sequence[Rollback]) -> None:
        if self.rollbacks.get(trial) != tuple(rollbacks):
            self._diary.write(("roll back", trial, rollbacks[-1].epoch))
            self.rollbacks[trial] = tuple(rollbacks)

    def conclude(self, result: TrialResult) -> None:
        self._diary.write(("conclude", result.trial, result.last.epoch))
        self.results.append(result)
