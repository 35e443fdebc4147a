"""A running search in a terminal: verdicts scroll by above a block that follows what runs."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tune_vae.errors import masked
from tune_vae.terminal.gpus import Gpus
from tune_vae.terminal.json_lines import JsonView
from tune_vae.terminal.plain import PlainView
from tune_vae.terminal.standing import best_line, counts, eta, verdict_line
from tune_vae.terminal.words import (
    SYMBOLS,
    duration,
    number,
    plain_table,
    short_name,
    spark,
    whole,
    word,
)

if TYPE_CHECKING:
    from tune_vae.service.desk import Running, Snapshot
    from tune_vae.spec.study import StudySpec

__all__ = ["LiveView", "view"]

LINES_AROUND = 13
"""Lines of the live block beside its running trials; more than fit would hide the best."""


class LiveView:
    """A permanent line per verdict above a block that follows what runs."""

    def __init__(
        self, out: Console, live: Live, spec: "StudySpec", gpus: Gpus | None = None
    ) -> None:
        self._out, self._live, self._spec, self._gpus = out, live, spec, gpus
        self._began = time.monotonic()

    def show(self, snapshot: "Snapshot") -> None:
        for remark in snapshot.remarks:
            self._live.console.print(f"[yellow]note[/]: {escape(remark)}")
        for ended in snapshot.ended:
            self._live.console.print(
                verdict_line(ended, self._spec),
                soft_wrap=False,
                overflow="ellipsis",
                no_wrap=True,
            )
        self._live.update(self._block(snapshot), refresh=True)

    def _block(self, snapshot: "Snapshot") -> RenderableType:
        parts: list[RenderableType] = [Text(), self._progress(snapshot), counts(snapshot.results)]
        if snapshot.running:
            parts += [Text(), self._running(snapshot.running)]
        best = best_line(snapshot.results)
        if best:
            parts += [Text(), whole(Text.from_markup(best))]
        if snapshot.trouble:
            parts.append(whole(Text(f"waiting: {snapshot.trouble}", style="yellow")))
        if self._gpus and self._gpus.line:
            parts.append(Text(self._gpus.line, style="dim", no_wrap=True, overflow="ellipsis"))
        parts.append(Text("Ctrl-C stops after this epoch and keeps everything", style="dim"))
        return Group(*parts)

    def _progress(self, snapshot: "Snapshot") -> RenderableType:
        results = snapshot.results
        trials, repeats = len(results.ended), len(results.wanted)
        repeated = repeats - len(results.pending)
        done, planned = trials + repeated, results.planned + repeats
        spent = time.monotonic() - self._began
        row = Table.grid(padding=(0, 1))
        row.add_row(
            Text.from_markup(
                f"[b]{trials}/{results.planned}[/] trials"
                + (f" · [b]{repeated}/{repeats}[/] repeats" if repeats else "")
            ),
            ProgressBar(total=planned, completed=done, width=min(40, self._out.width // 3)),
            Text.from_markup(f"{len(snapshot.running)} running · {duration(spent)}{eta(results)}"),
        )
        return row

    def _running(self, running: "tuple[Running, ...]") -> RenderableType:
        width = self._out.width
        table = plain_table()
        table.add_column("trial", justify="right", no_wrap=True)
        for name in ("epoch", short_name(self._spec.objective[0]), "rate"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("health", no_wrap=True)
        table.add_column("beta_norm", justify="right", no_wrap=True)
        table.add_column("decoder", no_wrap=True, overflow="ellipsis")
        if width >= 96:
            table.add_column("schedule", no_wrap=True)
        if width >= 116:
            table.add_column("rate so far", no_wrap=True)
            table.add_column("units", justify="right", no_wrap=True)
        room = max(3, self._out.height - LINES_AROUND)
        for one in sorted(running, key=lambda r: r.config.trial)[:room]:
            table.add_row(*self._cells(one, width))
        if len(running) <= room:
            return table
        return Group(table, Text(f"… and {len(running) - room} more", style="dim"))

    def _cells(self, one: "Running", width: int) -> list[str]:
        config, report = one.config, one.report
        wide = [config.schedule_name] if width >= 96 else []
        if report is None or one.verdict is None:
            cells = [config.label, f"0/{config.epochs}", "", "", "[dim]starting[/]"]
            more = ["", ""] if width >= 116 else []
        else:
            symbol, style = SYMBOLS[one.verdict.kind]
            again = " ↺" if report.rollbacks else ""
            cells = [
                config.label,
                f"{report.epoch}/{config.epochs}",
                number(report.value(self._spec.objective[0])),
                number(report.rate_nats),
                f"[{style}]{symbol} {word(one.verdict.kind)}[/]{again}",
            ]
            units = f"{report.active_units}/{config.latent_dim}"
            more = [f"[cyan]{spark(one.rates)}[/]", units] if width >= 116 else []
        return [*cells, f"{config.beta_norm:.3g}", config.decoder, *wide, *more]


@contextmanager
def view(
    out: Console, spec: "StudySpec", command: str = "search", *, as_json: bool = False
) -> "Iterator[Callable[[Snapshot], None]]":
    """The view that suits where the output goes."""
    if as_json:
        yield JsonView(out, spec, command).show
        return
    _header(out, spec, command)
    if not out.is_terminal:
        yield PlainView(out, spec).show
        return
    start = Text("starting Ray, MLflow and the workers …", style="dim")
    with Live(start, console=out, auto_refresh=False, transient=True) as live:
        gpus = Gpus()
        try:
            yield LiveView(out, live, spec, gpus).show
        finally:
            gpus.close()


def _header(out: Console, spec: "StudySpec", command: str) -> None:
    sampler, pruner = next(iter(spec.sampler)), next(iter(spec.pruner))
    budget = spec.budget
    seeds = f"{budget.finalists} finalists × {budget.seeds} seeds · " * (budget.seeds > 1)
    out.print(
        f"[b]tune-vae {command}[/]  study [b cyan]{spec.name}[/]  "
        f"[dim]{budget.trials} trials × {spec.train.epochs} epochs · {seeds}"
        f"minimise {', '.join(spec.objective)} · {sampler}, {pruner}[/]"
    )
    out.print(f"  [dim]watch[/]  tune-vae ui {escape(spec.operand)}")
    out.print(f"  [dim]study[/]  {escape(masked(spec.storage.ledger))}")
