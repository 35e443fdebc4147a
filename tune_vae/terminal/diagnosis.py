"""What is wrong with a training, and what to try, in words."""

import textwrap
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from tune_vae.science.diagnosis import Diagnosis, Finding
    from tune_vae.service.curves import Source

__all__ = ["show_diagnosis"]

NARROWEST, WIDEST = 40, 100
INDENT = 12


def show_diagnosis(out: Console, source: "Source", diagnosis: "Diagnosis") -> None:
    """The likeliest cause with its evidence and remedies, then others, then what was inferred."""
    epochs = source.curve.points
    out.print(
        f"[b]{escape(source.name)}[/]  [dim]{len(epochs)} epochs, from {epochs[0].epoch:g} to "
        f"{epochs[-1].epoch:g}[/]\n"
    )
    for place, finding in enumerate(diagnosis.findings):
        _show_finding(out, finding, first=place == 0)
    for note in diagnosis.notes:
        _show_fact(out, "read", note)
    if source.verdict:
        _show_fact(out, "verdict", f"at its end tune-vae said: {source.verdict}")


def _show_finding(out: Console, finding: "Finding", *, first: bool) -> None:
    sign, style = ("✓", "green") if finding.cause.sound else ("✗", "dark_orange")
    also = "" if first else "[dim]or also[/] "
    out.print(f"{also}[b {style}]{sign} {finding.cause.value}[/]")
    _show_fact(out, "evidence", f"{finding.evidence}.")
    for number, remedy in enumerate(finding.remedies, 1):
        _show_fact(out, "try" if number == 1 else "", f"{number}. {remedy}")
    out.print()


def _show_fact(out: Console, name: str, text: str) -> None:
    width = max(NARROWEST, min(WIDEST, out.width)) - INDENT
    for place, line in enumerate(textwrap.wrap(text, width)):
        out.print(f"  [dim]{'' if place else name:<{INDENT - 2}}[/]{escape(line)}")
