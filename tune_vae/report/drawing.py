"""From matplotlib to a picture on a page: style, encoding, and what it shows in words."""

import io
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

# Building its list of fonts, once per machine, is nobody's news.
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)

import matplotlib  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.axis import Axis  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.ticker import FuncFormatter, NullFormatter  # noqa: E402

__all__ = ["INK", "PALE", "SERIES", "WIDTH", "Picture", "bare", "drawn", "logarithmic"]

DPI = 130
WIDTH = 9.2
"""Of a picture as wide as the page, in inches."""
INK, PALE = "#1f2933", "#d9dee3"
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7b3294", "#5b6570")
"""Colours of a series without a meaning of their own; see `palette` for their source."""
STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#9aa5b1",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 9,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "grid.color": "#eceff2",
    "grid.linewidth": 0.8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "text.color": INK,
    # A trial's words may hold any character.
    "text.parse_math": False,
    "xtick.color": "#52606d",
    "xtick.labelsize": 8,
    "ytick.color": "#52606d",
    "ytick.labelsize": 8,
}


@dataclass(frozen=True)
class Picture:
    """A PNG with words.

    Arguments:
        name: Of its file, without the ending.
        png: Its contents.
        alt: What it shows, for those who do not see it.
        caption: How to read it.
    """

    name: str
    png: bytes
    alt: str
    caption: str


def drawn(
    name: str,
    draw: Callable[[Figure], None],
    *,
    size: tuple[float, float],
    alt: str,
    caption: str,
    by_hand: bool = False,
) -> Picture:
    """A picture of what `draw` puts on an empty figure of a size in inches.

    Arguments:
        by_hand: Whether `draw` says where its panels go, which is faster where they are many.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=size, dpi=DPI, layout=None if by_hand else "constrained")
        draw(figure)
        buffer = io.BytesIO()
        # Without matplotlib's version in the file, so that equal pictures are equal bytes.
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return Picture(name, buffer.getvalue(), alt, caption)


def logarithmic(axis: Axis) -> None:
    """Plain numbers at the powers of ten; matplotlib's own would be formulas, which are off."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def bare(axes: Axes) -> None:
    """Leave only what is drawn: no ticks, no frame, no grid."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    for side in axes.spines.values():
        side.set_visible(False)
