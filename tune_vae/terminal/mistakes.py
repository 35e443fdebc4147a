"""Errors, with the place in the study file where there is one."""

import textwrap

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape

from tune_vae.errors import Problem, StudyFileError, TuneVaeError, masked

__all__ = ["show_error"]

MOST_PROBLEMS = 20
TIP_COLUMNS = 90


def show_error(out: Console, error: TuneVaeError) -> None:
    """An error in the words of its message, with the place in the study file when it has one."""
    if not isinstance(error, StudyFileError):
        out.print(f"[b red]error[/]: {escape(str(error))}")
        return
    lines = error.text.splitlines()
    for problem in error.problems[:MOST_PROBLEMS]:
        _show_problem(out, problem, error.file, lines)
    count = len(error.problems)
    if count > MOST_PROBLEMS:
        out.print(f"… and {count - MOST_PROBLEMS:,} more.")
    if error.text:
        plural = "problem" if count == 1 else "problems"
        out.print(f"[b]{count:,} {plural} in {escape(error.file)}[/]; nothing was started.")


def _show_problem(out: Console, problem: Problem, file: str, lines: list[str]) -> None:
    out.print(f"[b red]error[/]: {escape(_printable(masked(problem.message)))}")
    if not 0 < problem.line <= len(lines):
        if problem.tip:
            out.print(f"  [cyan]tip[/]: {escape(problem.tip)}")
        return
    out.print(f"  [blue]-->[/] {escape(file)}:{problem.line}:{problem.column}")
    # A line may be very long; show the part around the fault.
    line, at = masked(lines[problem.line - 1]), problem.column - 1
    begin = max(0, at - 60) if len(line) > 100 else 0
    shown = _printable(line[begin : begin + 100])
    fault = shown[at - begin : at - begin + problem.width]
    margin = " " * cell_len(shown[: at - begin])
    carets = "^" * max(1, cell_len(fault))
    out.print(f"[blue]{problem.line:>4} |[/] {escape(shown)}")
    fits = len(margin + carets + problem.tip) < TIP_COLUMNS
    beside = f" [cyan]{escape(problem.tip)}[/]" if problem.tip and fits else ""
    out.print(f"     [blue]|[/] {margin}[red]{carets}[/]{beside}")
    for part in [] if fits else textwrap.wrap(problem.tip, TIP_COLUMNS):
        out.print(f"     [blue]|[/] [cyan]{escape(part)}[/]")


def _printable(text: str) -> str:
    """Text of one line that moves no cursor, with as many characters."""
    return "".join(c if c.isprintable() else " " if c == "\t" else "·" for c in text)
