"""Charts of what is traded for what: rate against distortion, one objective against another."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tune_vae.report.drawing import INK, PALE, WIDTH, Picture, drawn, logarithmic
from tune_vae.report.evidence import Evidence, noun
from tune_vae.science.health import Kind
from tune_vae.science.units import bits_per_dim
from tune_vae.service.front import fronts
from tune_vae.service.palette import COLOURS
from tune_vae.service.rows import TrialRow
from tune_vae.spec import components

__all__ = ["objectives", "rate_distortion"]

MARKERS = "os^DvPX*<>"


class _Point(NamedTuple):
    """A trial, its rate in nats and its distortion in bits per dim."""

    row: TrialRow
    rate: float
    distortion: float

    @property
    def likelihood(self) -> str:
        return components.split(self.row.config.likelihood)[0]


def rate_distortion(evidence: Evidence) -> Picture | None:
    """Every trial that was measured: the finished ones at their best, the others at their end."""
    finished = _points(evidence, evidence.finished)
    stopped = _points(evidence, [row for row in evidence.results.ended if not row.finished])
    if not finished:
        return None
    left, right = _bounds([point.rate for point in finished])
    low, high = _bounds([point.distortion for point in finished])
    left, high = min(left, -0.03 * right), high + 0.6 * (high - low)
    inside = [one for one in stopped if one.rate <= right and one.distortion <= high]
    best, *_ = fronts([(point.rate, point.distortion) for point in finished])
    front = sorted((finished[i] for i in best), key=lambda point: point.rate)

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.set(xlim=(left, right), ylim=(low, high))
        _lines_of_equal_bits(axes, finished[0].row.config.values)
        axes.step(
            [point.rate for point in front],
            [point.distortion for point in front],
            where="post",
            color=INK,
            lw=1.1,
            zorder=1.5,
        )
        _scatter(figure, axes, [*inside, *finished], _forecast(axes, evidence))
        for point in finished:
            if point.row == evidence.subject:
                axes.annotate(
                    f"trial {point.row.trial}",
                    (point.rate, point.distortion),
                    xytext=(12, 16),
                    textcoords="offset points",
                    weight="bold",
                    arrowprops={"arrowstyle": "-", "color": INK, "lw": 0.8},
                )
        axes.set_xlabel("rate: what the latents say of an example, nats")
        axes.set_ylabel("distortion, bits per dim")

    outside = len(stopped) - len(inside)
    return drawn(
        "rate_distortion",
        draw,
        size=(WIDTH, 5.0),
        alt=f"Rate against distortion of {len(finished)} finished and {len(inside)} stopped "
        f"trials; the front of both holds trials {_numbers([point.row for point in front])}.",
        caption="Down is a better reconstruction, left is fewer nats in the latents; at the left "
        "edge they are ignored. The black steps join the trials that no other beats in both. On "
        "each thin line the sum, bits per dim, is the same. Rings are trials that were stopped, "
        "in the colour of their verdict."
        + (_FORECAST if evidence.forecast and evidence.forecast.curves else "")
        + ("" if evidence.proper else _CALIBRATED)
        + (f" Outside of the picture: {outside} that were stopped." if outside else ""),
    )


_FORECAST = (
    " Dashed is what the data's spectrum says of a linear model with a Gaussian; deeper ones "
    "should lie below."
)
_CALIBRATED = " Distortion is that of the calibrated Gaussian, which every likelihood has."


def _points(evidence: Evidence, rows: Sequence[TrialRow]) -> list[_Point]:
    found = []
    for row in rows:
        report = row.best if row.finished else row.last
        if report:
            point = _Point(row, report.rate_nats, evidence.distortion_bits(row, report))
            found += [point] if math.isfinite(point.rate + point.distortion) else []
    return found


def _bounds(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = 0.08 * (high - low) or 0.1 * abs(high) or 0.1
    return low - margin, high + margin


def _forecast(axes: Axes, evidence: Evidence) -> list[Line2D]:
    """Curves that were known before any trial, one for each latent size."""
    lines = []
    for latents, one in evidence.forecast.curves.items() if evidence.forecast else ():
        curve, values = one.curve(), one.config.values
        rates = [outlook.rate_nats for outlook in curve]
        bits = [
            outlook.bits_per_dim - bits_per_dim(outlook.rate_nats, values) for outlook in curve
        ]
        # Of binary data there are none.
        if math.isfinite(sum(bits)):
            label = f"forecast, {latents} latents"
            lines += axes.plot(rates, bits, color=INK, ls="--", lw=1.0, label=label)
    return lines


def _scatter(
    figure: Figure, axes: Axes, points: Sequence[_Point], lines: Sequence[Line2D]
) -> None:
    """Colour is beta_norm, form the likelihood, a ring the verdict of a stopped trial."""
    betas = [point.row.config.beta_norm for point in points]
    positive = [beta for beta in betas if beta > 0] or [1.0]
    norm = LogNorm(0.99 * min(positive), 1.01 * max(positive))
    names = list(dict.fromkeys(point.likelihood for point in points))
    marker = {name: MARKERS[i % len(MARKERS)] for i, name in enumerate(names)}
    for point, beta in zip(points, betas, strict=True):
        kind, finished = Kind(point.row.kind), point.row.finished
        axes.scatter(
            [point.rate],
            [point.distortion],
            s=58 if finished else 40,
            marker=marker[point.likelihood],
            c=[max(beta, min(positive))],
            cmap="cividis",
            norm=norm,
            edgecolors="white" if finished else COLOURS[kind],
            linewidths=0.8 if finished else 2.0,
            zorder=3 if finished else 2,
        )
    bar = figure.colorbar(ScalarMappable(norm, "cividis"), ax=axes, pad=0.01, aspect=35)
    bar.set_label("beta_norm")
    logarithmic(bar.ax.yaxis)
    stopped = dict.fromkeys(Kind(point.row.kind) for point in points if not point.row.finished)
    handles = [_handle(name, form, "#5b6570", "white") for name, form in marker.items()]
    handles += [_handle(str(kind), "o", "white", COLOURS[kind]) for kind in stopped]
    handles += lines
    axes.legend(handles=handles, loc="upper right", ncols=2 if len(handles) > 5 else 1)


def _handle(name: str, form: str, fill: str, edge: str) -> Line2D:
    return Line2D(
        [],
        [],
        ls="",
        marker=form,
        markersize=7,
        markerfacecolor=fill,
        markeredgecolor=edge,
        markeredgewidth=1.8,
        label=name.replace("_", " "),
    )


def _lines_of_equal_bits(axes: Axes, values: int) -> None:
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    slope = bits_per_dim(1.0, values)
    top = high + slope * right
    step = _round_step((top - low) / 8)
    first, last = math.ceil(low / step), math.floor(top / step)
    for level in (step * i for i in range(first, last + 1)):
        axes.plot((left, right), (level - slope * left, level - slope * right), color=PALE, lw=0.8)
        # Named where it enters the picture, at the left or at the top.
        x = max(left, (level - high) / slope)
        if x < left + 0.9 * (right - left):
            y = min(level - slope * x, high)
            axes.text(x, y, f" {level:g}", color="#8a949e", fontsize=7, va="top", clip_on=True)


def _round_step(rough: float) -> float:
    """1, 2, 2.5 or 5 times a power of ten, at least as large."""
    power: float = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough)


def _numbers(rows: Sequence[TrialRow]) -> str:
    return ", ".join(str(row.trial) for row in rows)


def objectives(evidence: Evidence) -> Picture | None:
    """The two objectives of the finished trials, with the front and its knee."""
    rows, results = evidence.finished, evidence.results
    if len(results.objective) < 2 or not rows:
        return None
    front, knee = results.front, results.knee

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        steps = [[row.values[place] for row in front] for place in (0, 1)]
        axes.step(*steps, where="post", color=INK, lw=1.1, zorder=1)
        for row in rows:
            x, y = row.values
            axes.scatter(x, y, s=46, color=COLOURS[Kind(row.kind)], ec="white", zorder=3)
            if row in front:
                axes.annotate(
                    str(row.trial), (x, y), xytext=(5, 5), textcoords="offset points", fontsize=8
                )
        if knee:
            x, y = knee.values
            axes.scatter(x, y, s=170, facecolors="none", edgecolors=INK, lw=1.6, zorder=4)
        axes.set(xlabel=noun(results.objective[0]), ylabel=noun(results.objective[1]))

    return drawn(
        "front",
        draw,
        size=(WIDTH, 4.4),
        alt=f"{' against '.join(map(noun, results.objective))} of {len(rows)} finished trials. "
        f"The front holds trials {_numbers(front)}"
        + (f"; its knee is trial {knee.trial}." if knee else "."),
        caption="Both are minimised. The steps join the trials that no other beats in both."
        + (" The circle is the knee, where the front bends most." if knee else ""),
    )
