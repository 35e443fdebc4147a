"""A running search as plain lines, for logs and pipes."""

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from tune_vae.terminal.standing import verdict_line
from tune_vae.terminal.words import brief

if TYPE_CHECKING:
    from tune_vae.service.desk import Snapshot
    from tune_vae.spec.study import StudySpec

__all__ = ["PlainView"]


class PlainView:
    """One line per event, for logs and pipes."""

    def __init__(self, out: Console, spec: "StudySpec") -> None:
        self._out, self._spec = out, spec
        self._started: set[int] = set()
        self._trouble = ""

    def show(self, snapshot: "Snapshot") -> None:
        for running in snapshot.running:
            if running.config.trial not in self._started:
                self._started.add(running.config.trial)
                self._out.print(
                    f"[dim]start[/] trial {running.config.label}: {brief(running.config)}"
                )
        counts = _counts_of(snapshot)
        for ended in snapshot.ended:
            count = next(counts[ended.config.repeat_of is not None])
            self._out.print(f"{count} {verdict_line(ended, self._spec)}")
        for remark in snapshot.remarks:
            self._out.print(f"[yellow]note[/]: {escape(remark)}")
        if snapshot.trouble != self._trouble:
            self._trouble = snapshot.trouble
            if self._trouble:
                self._out.print(f"[yellow]waiting[/]: {escape(self._trouble)}")


def _counts_of(snapshot: "Snapshot") -> "tuple[Iterator[str], Iterator[str]]":
    """What stands before each of the trials that ended, and before each of the repeats."""
    results = snapshot.results
    repeats = sum(one.config.repeat_of is not None for one in snapshot.ended)
    trials, planned = len(snapshot.ended) - repeats, len(results.wanted)
    ended = planned - len(results.pending)
    width = len(str(results.planned))
    return (
        (
            f"\\[{number:>{width}}/{results.planned}]"
            for number in itertools.count(len(results.ended) - trials + 1)
        ),
        (f"\\[repeat {number}/{planned}]" for number in itertools.count(ended - repeats + 1)),
    )
