"""How the verdict on a trial changed from epoch to epoch, in a few rows. Knows no library."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from tune_vae.science.health import Limits, Verdict, judge
from tune_vae.science.history import History

__all__ = ["Phase", "judged", "markdown", "phases"]

MOST_PHASES = 8
"""Rows of a table; of more, the first few and the last few are shown."""
SHOWN_FIRST = 3
LONGEST = 300
"""Characters of a sentence in a table."""


@dataclass(frozen=True)
class Phase:
    """Epochs in a row with one kind of verdict.

    Arguments:
        first, last: Epochs, from 1.
        verdict: That of the last of them.
    """

    first: int
    last: int
    verdict: Verdict

    @property
    def epochs(self) -> str:
        """Example: `13–40`, or `13` of a single one."""
        return f"{self.first}–{self.last}" if self.last > self.first else str(self.first)

    @property
    def word(self) -> str:
        return self.verdict.kind.value.replace("_", " ")


def judged(history: History, limits: Limits) -> dict[int, Verdict]:
    """The verdict after each epoch, as it was given then."""
    return {one.epoch: judge(history.until(one.epoch), limits) for one in history}


def phases(verdicts: Mapping[int, Verdict]) -> list[Phase]:
    """Verdicts by epoch, those of one kind in a row as one."""
    found: list[Phase] = []
    for epoch in sorted(verdicts):
        verdict, before = verdicts[epoch], found[-1] if found else None
        if before and before.verdict.kind is verdict.kind:
            found[-1] = Phase(before.first, epoch, verdict)
        else:
            found.append(Phase(epoch, epoch, verdict))
    return found


def markdown(verdicts: Mapping[int, Verdict]) -> str:
    """The phases as a table, which stays small also where verdicts flicker."""
    found = phases(verdicts)
    if not found:
        return ""
    rows = [_row(phase) for phase in found]
    if len(found) > MOST_PHASES:
        ending = len(found) - (MOST_PHASES - SHOWN_FIRST - 1)
        rows[SHOWN_FIRST:ending] = [_summary(found[SHOWN_FIRST:ending])]
    return "\n".join(["| epochs | verdict | |", "|---|---|---|", *rows])


def _row(phase: Phase) -> str:
    # A bar would begin a new cell, a line break end the table.
    reason = " ".join(phase.verdict.reason[:LONGEST].split()).replace("|", "\\|")
    return f"| {phase.epochs} | {phase.word} | {reason} |"


def _summary(several: list[Phase]) -> str:
    spent: Counter[str] = Counter()
    for phase in several:
        spent[phase.word] += phase.last - phase.first + 1
    told = ", ".join(f"{word} in {epochs} epochs" for word, epochs in spent.most_common())
    between = Phase(several[0].first, several[-1].last, several[-1].verdict)
    return f"| {between.epochs} | {len(several)} changes | {told} |"
