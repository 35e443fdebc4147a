"""What a search did, epoch by epoch in the order in which it trained."""

from dataclasses import dataclass, field

from tune_vae.science.health import Verdict
from tune_vae.science.history import EpochReport, History
from tune_vae.service.journey import TrialResult, history_of
from tune_vae.spec.trial import TrialConfig

__all__ = ["Log"]


@dataclass
class Log:
    """A search that trains one trial after the other. Our own takes it for its tracker.

    Arguments:
        configs: Trials by number.
        reports: All epochs, in order.
        ends: How trials ended, by number: `finished`, a verdict, or `pruned`. One that is
            missing was under way when the budget was spent.
    """

    configs: dict[int, TrialConfig] = field(default_factory=dict)
    reports: list[EpochReport] = field(default_factory=list)
    ends: dict[int, str] = field(default_factory=dict)

    def log(self, report: EpochReport, verdict: Verdict) -> None:
        self.reports.append(report)

    def conclude(self, result: TrialResult) -> None:
        self.ends[result.trial] = "finished" if result.finished else result.verdict.kind.value

    def histories(self) -> dict[int, History]:
        """The epochs of each trial that has any, in the order in which they began."""
        found: dict[int, History] = {}
        for report in self.reports:
            empty = history_of(self.configs[report.trial], None)
            found.setdefault(report.trial, empty).add(report)
        return found
