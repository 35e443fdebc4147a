"""A chart of what mattered: how much each knob tells of an objective."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tune_vae.report.drawing import SERIES, WIDTH, Picture, drawn, logarithmic
from tune_vae.report.evidence import Evidence, noun
from tune_vae.report.influence import influences
from tune_vae.service.rows import TrialRow

__all__ = ["what_mattered"]

FEW = 50
"""Finished trials below which shares are a hint only."""


def what_mattered(evidence: Evidence, place: int) -> Picture | None:
    """How much each knob tells of an objective, and the values behind it."""
    found = influences(evidence.finished, place)
    if not found:
        return None
    rows = sorted(evidence.finished, key=lambda row: row.values[place])
    name = noun(evidence.results.objective[place])
    decoders = list(dict.fromkeys(row.config.decoder for row in rows))
    numbers = [one.knob for one in found if one.slope is not None and "." not in one.knob][:2]

    def draw(figure: Figure) -> None:
        grid = figure.subplots(2 if numbers else 1, 2, squeeze=False)
        axes, beside = grid[0]
        for line, one in enumerate(reversed(found)):
            colour = SERIES[0] if one.certain else "#c5ccd3"
            axes.barh(line, one.share, color=colour, height=0.62)
            axes.text(one.share + 0.015, line, f"{one.share:.0%}", va="center", fontsize=8)
        axes.set_yticks(range(len(found)), [one.knob for one in reversed(found)])
        axes.set(xlim=(0, 1.12), title="share of the spread of ranks")
        axes.grid(axis="y", visible=False)
        _strip(beside, rows, decoders, place)
        beside.set(xlabel=name, title="by decoder")
        for panel, knob in zip(grid.flat[2:], numbers, strict=False):
            _against(panel, rows, knob, place)
            panel.set(xlabel=knob, ylabel=name)
        for panel in grid.flat[2 + len(numbers) :]:
            panel.set_visible(False)

    told = ", ".join(f"{one.knob} {one.share:.0%}" for one in found)
    grey = [one.knob for one in found if not one.certain]
    return drawn(
        f"what_mattered_{place + 1}",
        draw,
        size=(WIDTH, 5.2 if numbers else 2.8),
        alt=f"Share of the spread of the finished trials' ranks by {name} that each knob tells: "
        f"{told}.",
        caption=f"How much of the ranks by {name} of {len(rows)} finished trials a knob tells "
        "alone, numbers in three groups, adjusted for chance; decoder is likelihood and sigma "
        "mode as one. "
        + (f"Grey: as much may be chance ({', '.join(grey)}). " if grey else "")
        + (f"With fewer than some {FEW} trials, take it as a hint. " if len(rows) < FEW else "")
        + "The sampler tried mostly what looked good, and trials that were stopped are not in it.",
    )


def _strip(axes: Axes, rows: Sequence[TrialRow], decoders: Sequence[str], place: int) -> None:
    for line, decoder in enumerate(reversed(decoders)):
        values = [row.values[place] for row in rows if row.config.decoder == decoder]
        # Apart from each other, for those of nearly equal values.
        heights = [line + 0.12 * ((i % 3) - 1) for i in range(len(values))]
        axes.scatter(values, heights, s=24, color=SERIES[0], alpha=0.75, lw=0)
    axes.set_yticks(range(len(decoders)), list(reversed(decoders)))
    axes.margins(y=0.15)


def _against(axes: Axes, rows: Sequence[TrialRow], knob: str, place: int) -> None:
    x, y = [float(row.config.settings[knob]) for row in rows], [row.values[place] for row in rows]
    axes.scatter(x, y, s=24, color=SERIES[0], alpha=0.75, lw=0)
    if min(x) > 0 and max(x) > 20 * min(x):
        axes.set_xscale("log")
        logarithmic(axes.xaxis)
