"""How a study stands: counts, the best so far, what runs; and a trial's verdict in a line."""

import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from tune_vae.service.certainty import certainty
from tune_vae.service.foretold import passed_over
from tune_vae.service.outlook import seconds_left
from tune_vae.terminal.words import SYMBOLS, brief, duration, short_name, word

if TYPE_CHECKING:
    from tune_vae.service.desk import Ended
    from tune_vae.service.results import StudyResults
    from tune_vae.spec.study import StudyOutline, StudySpec

__all__ = ["best_line", "counts", "eta", "show_foretold", "show_status", "verdict_line"]


def verdict_line(ended: "Ended", spec: "StudySpec") -> str:
    kind = ended.verdict.kind
    symbol, style = SYMBOLS[kind]
    best = "[b green]best so far[/] · " if ended.is_best else ""
    config = ended.config
    return (
        f"{config.label:>5} [{style}]{symbol} {word(kind):<9}[/]  {best}"
        f"{escape(ended.verdict.reason)}  [dim]{brief(config)}[/]"
    )


def counts(results: "StudyResults") -> Text:
    parts = []
    for kind, count in results.counts.items():
        symbol, style = SYMBOLS[kind]
        parts.append(f"[{style}]{symbol} {word(kind)} {count}[/]")
    return Text.from_markup("  ".join(parts) or "[dim]no trial has ended yet[/]")


def eta(results: "StudyResults") -> str:
    """When the study will have ended, to be put behind other facts."""
    left = seconds_left(results, time.time())
    return "" if left is None else f" · ETA [b]{duration(left)}[/]"


def show_foretold(out: Console, results: "StudyResults") -> None:
    told = passed_over(results.foretold)
    if told:
        out.print(f"[dim]{told}[/]")


def best_line(results: "StudyResults") -> str:
    if not results.front:
        return ""
    if results.winner is None:
        return f"[b green]Pareto front[/] of {len(results.front)} trials"
    row = results.winner
    return (
        f"[b green]best[/] [b]{row.values[0]:.4g}[/] {short_name(results.objective[0])}  "
        f"[dim]trial {row.trial} · {brief(row.config)}[/]"
    )


def show_status(out: Console, results: "StudyResults", spec: "StudyOutline") -> None:
    """A study as it stands, also while it is searched elsewhere."""
    running = [row for row in (*results.rows, *results.repeats) if row.state == "running"]
    waiting = [row for row in results.rows if row.state == "waiting"]
    out.print(
        f"study [b cyan]{results.study}[/]  {len(results.ended)}/{results.planned} ended · "
        f"{len(running)} running · {len(waiting)} waiting to be taken up again{eta(results)}"
    )
    if results.repeats:
        done = sum(row.ended for row in results.repeats)
        out.print(f"{done}/{len(results.repeats)} repeats of finalists ended")
    out.print(counts(results))
    show_foretold(out, results)
    for row in running:
        attempt = f" · attempt {row.attempts}" if row.attempts > 1 else ""
        lease = row.silent_seconds
        seen = "" if lease is None else f" · lease {max(0.0, lease):.0f} s old"
        out.print(
            f"{row.config.label:>5} epoch {row.epoch}/{row.config.epochs} on "
            f"{escape(row.place or row.owner)}{seen}{attempt}  [dim]{brief(row.config)}[/]"
        )
    best = best_line(results)
    if best:
        out.print(best)
    if results.repeats:
        out.print(certainty(results))
    if len(results.ended) < results.planned and not results.stalled:
        out.print(f"[dim]go on with it: tune-vae search {escape(spec.operand)}[/]")
