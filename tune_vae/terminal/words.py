"""Numbers, verdicts and tables in the form that all views share."""

import math
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from tune_vae.science.health import Kind
from tune_vae.service.palette import SIGNS

if TYPE_CHECKING:
    from tune_vae.science.history import EpochReport
    from tune_vae.spec.trial import TrialConfig

__all__ = [
    "SYMBOLS",
    "brief",
    "duration",
    "mib",
    "number",
    "pair",
    "plain_table",
    "reference",
    "rolled_back",
    "short_name",
    "show_facts",
    "span",
    "spark",
    "whole",
    "word",
]

STYLES = {
    Kind.HEALTHY: "green",
    Kind.WARMING_UP: "dim",
    Kind.PARTIALLY_COLLAPSED: "yellow",
    Kind.RECOVERING: "cyan",
    Kind.OVERFITTING: "yellow",
    Kind.COLLAPSED: "dark_orange",
    Kind.NEVER_FORMED: "dark_orange",
    Kind.STALLED: "dark_orange",
    Kind.EXPLODING: "magenta",
    Kind.DIVERGED: "magenta",
    Kind.HOPELESS: "bright_black",
    Kind.FAILED: "red",
}
SYMBOLS = {kind: (SIGNS[kind], style) for kind, style in STYLES.items()}
BARS = "▁▂▃▄▅▆▇█"


def word(kind: Kind) -> str:
    return kind.value.replace("_", " ")


def short_name(objective: str) -> str:
    return {"bits_per_dim": "bits/dim", "bits_per_dim_calibrated": "cal. bits/dim"}.get(
        objective, objective
    )


def number(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else "n/a"
    return str(value)


def span(low: int, high: int) -> str:
    return f"{low:,}" if low == high else f"{low:,} … {high:,}"


def mib(count: int) -> int:
    return max(1, round(count / 2**20))


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"


def spark(rates: tuple[float, ...]) -> str:
    """The last dozen rates as bars, from 0 to their largest."""
    finite = [rate if math.isfinite(rate) else 0.0 for rate in rates[-12:]]
    top = max(finite, default=0.0) or 1.0
    return "".join(BARS[min(7, int(8 * max(rate, 0.0) / top))] for rate in finite)


def brief(config: "TrialConfig") -> str:
    return (
        f"beta_norm {config.beta_norm:.3g} · {config.decoder} · {config.schedule_name} · "
        f"lr {config.lr:.2g}"
    )


def reference(ref: dict[str, object]) -> str:
    ((name, arguments),) = ref.items()
    inner = (
        ", ".join(f"{key} {number(value)}" for key, value in arguments.items())
        if isinstance(arguments, dict)
        else ""
    )
    return f"{name} ({inner})" if inner else name


def rolled_back(report: "EpochReport") -> str:
    """That an epoch is not what the configuration asked for."""
    return f"  rolled back {report.rollbacks}×, lr {report.lr:.3g}" if report.rollbacks else ""


def show_facts(out: Console, facts: dict[str, str]) -> None:
    for name, value in facts.items():
        out.print(f"  [dim]{name:<11}[/] {escape(value)}")


def plain_table() -> Table:
    return Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))


def whole(text: Text) -> Text:
    """Text that is wrapped and not cut, also on a console that leaves wrapping to the terminal."""
    text.no_wrap, text.overflow = False, "fold"
    return text


def pair(values: "tuple[float, ...]") -> str:
    return ", ".join(f"{value:.4g}" for value in values)
