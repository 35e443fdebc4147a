"""A single trial: its training as it goes, how it ended, where its export lies."""

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.text import Text

from tune_vae.terminal.words import SYMBOLS, brief, number, rolled_back, show_facts, word

if TYPE_CHECKING:
    from tune_vae.api import Trained
    from tune_vae.science.health import Verdict
    from tune_vae.science.history import EpochReport
    from tune_vae.service.export import Exported
    from tune_vae.spec.trial import TrialConfig

__all__ = ["show_exported", "show_trained", "training"]


@contextmanager
def training(
    out: Console, config: "TrialConfig"
) -> "Iterator[Callable[[EpochReport, Verdict], None]]":
    """A line that follows the epochs of a single training; plain lines without a terminal."""
    out.print(f"trial {config.label}: [dim]{brief(config)}[/]")

    def line(report: "EpochReport", verdict: "Verdict") -> str:
        symbol, style = SYMBOLS[verdict.kind]
        return (
            f"epoch {report.epoch:>4}/{config.epochs}  {number(report.bits_per_dim)} bits/dim  "
            f"rate {number(report.rate_nats)} nats  [{style}]{symbol} {word(verdict.kind)}[/]"
            f"{rolled_back(report)}"
        )

    if not out.is_terminal:
        yield lambda report, verdict: out.print(line(report, verdict))
        return
    with Live(Text("loading the data …", style="dim"), console=out, auto_refresh=False) as live:
        yield lambda report, verdict: live.update(
            Text.from_markup(line(report, verdict)), refresh=True
        )


def show_trained(out: Console, trained: "Trained", saved: str) -> None:
    """How a single training ended."""
    symbol, style = SYMBOLS[trained.verdict.kind]
    out.print(
        f"[{style}]{symbol} {word(trained.verdict.kind)}[/]  {escape(trained.verdict.reason)}"
    )
    show_facts(out, {"saved": saved, "load": f'tune_vae.load_vae("{saved}")'})


def show_exported(out: Console, exported: "Exported") -> None:
    """Where an export lies, and what it can do."""
    folder = exported.folder
    out.print(f"trial {exported.trial} in [b]{escape(str(folder))}[/]")
    facts = {"read": f"{folder}/README.md", "load": f'tune_vae.load_vae("{folder}")'}
    if exported.obstacle:
        facts["lacks"] = (
            "model.py, because the model cannot be written in torch's own operators: "
            f"{exported.obstacle}"
        )
    else:
        facts = {
            "run": f"python {shlex.quote(f'{folder}/model.py')}   (needs torch alone)"
        } | facts
    show_facts(out, facts)
