"""Charts of how trials went, epoch by epoch: scores, KL weight, the decoder's scale."""

import math
from collections.abc import Callable, Iterable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tune_vae.report.drawing import INK, PALE, SERIES, WIDTH, Picture, drawn, logarithmic
from tune_vae.report.evidence import GROUPS, Evidence, group_name
from tune_vae.science.health import Kind
from tune_vae.science.history import EpochReport, History
from tune_vae.service.palette import COLOURS, SIGNS
from tune_vae.service.rows import TrialRow
from tune_vae.spec import components

__all__ = ["curves", "every_trial", "sigmas"]

MOST_PANELS = 30
MOST_GREY = 60
"""Other trials that stand behind those of a column."""
COLUMNS = 6
WEIGHT = "#f0e9da"
LOWEST_SIGMA, HIGHEST_SIGMA = 1e-4, 100.0
"""What lies beyond belongs to a trial that blew up, and would press all others together."""


def curves(evidence: Evidence) -> Picture | None:
    """Bits per dim and rate over the epochs, one column for each way in which trials ended."""
    columns = [rows for kinds in GROUPS if (rows := _seen(evidence, evidence.group(kinds)))]
    if not columns:
        return None
    histories, subject = evidence.histories, evidence.subject
    grey = list(histories.values())[:: max(1, len(histories) // MOST_GREY)]
    numbers = (evidence.bits, _rate)
    limits = [_limits(evidence, number) for number in numbers]

    def draw(figure: Figure) -> None:
        grid = figure.subplots(2, len(columns), sharex=True, sharey="row", squeeze=False)
        longest = max(history.epochs for history in histories.values())
        grid[0][0].set(ylabel="bits per dim", ylim=limits[0], xlim=(0, longest + 1))
        grid[1][0].set(ylabel="rate, nats", ylim=limits[1])
        for place, rows in enumerate(columns):
            for axes, number in zip(grid[:, place], numbers, strict=True):
                _shade(axes, [histories[row.trial] for row in rows])
                for history in grey:
                    axes.plot(*_curve(history, number), color=PALE, lw=0.7, zorder=1)
                for row in rows:
                    _coloured(
                        axes, row, _curve(histories[row.trial], number), thick=row == subject
                    )
            colour = INK if rows[0].finished else COLOURS[Kind(rows[0].kind)]
            title = f"{group_name(rows)}: {len(rows)}".replace(" or ", "\nor ")
            grid[0][place].set_title(title, color=colour)
            grid[1][place].set_xlabel("epoch")

    counted = ", ".join(f"{len(rows)} {group_name(rows)}" for rows in columns)
    thick = f"; the thick line is trial {subject.trial}" if subject else ""
    return drawn(
        "curves",
        draw,
        size=(WIDTH, 4.6),
        alt=f"Validation bits per dim and rate over the epochs, by how trials ended: {counted}.",
        caption="Validation, at beta = 1. Grey lines are all other trials; a cross marks where a "
        f"trial was stopped{thick}. Shaded: the KL weight, averaged over the trials of the "
        "column, from 0 at the bottom to 1 at the top.",
    )


def every_trial(evidence: Evidence) -> Picture | None:
    """One small panel a trial, with its own KL weight; the best first."""
    others = (row for kinds in GROUPS for row in evidence.group(kinds))
    everyone = _seen(evidence, {row.trial: row for row in (*evidence.finished, *others)}.values())
    rows = _chosen(everyone)
    if not rows:
        return None
    bits, rate = (_limits(evidence, number) for number in (evidence.bits, _rate))
    lines = math.ceil(len(rows) / COLUMNS)
    height = 0.5 + 1.25 * lines
    room = {"left": 0.06, "right": 0.985, "top": 1 - 0.22 / height, "bottom": 0.45 / height}
    room |= {"hspace": 0.32, "wspace": 0.08}

    def draw(figure: Figure) -> None:
        grid = figure.subplots(
            lines, COLUMNS, sharex=True, sharey=True, squeeze=False, gridspec_kw=room
        )
        for axes in grid.flat[len(rows) :]:
            axes.set_visible(False)
        # All panels share these. Once they are said, no curve makes all look for them again.
        longest = max(evidence.histories[row.trial].epochs for row in rows)
        grid[0][0].set(xlim=(1, max(2, longest)), ylim=(min(0.0, rate[0]), rate[1]))
        for axes, row in zip(grid.flat, rows, strict=False):
            history, colour = evidence.histories[row.trial], COLOURS[Kind(row.kind)]
            _shade(axes, [history])
            axes.plot(*_curve(history, _rate), color=colour, lw=1.6, zorder=2)
            # As a share of the panel's height: a second axis for each panel would take seconds.
            epochs, values = _curve(history, evidence.bits)
            axes.plot(
                epochs,
                [(value - bits[0]) / (bits[1] - bits[0]) for value in values],
                color=INK,
                lw=0.9,
                ls=(0, (3, 1.5)),
                transform=axes.get_xaxis_transform(),
                zorder=3,
            )
            value = f" {row.values[0]:.3g}" if row.values else ""
            title = f"{row.trial} {SIGNS[Kind(row.kind)]}{value}"
            # Where it shall stand is said, because to find out takes longer than all else.
            axes.set_title(title, color=colour, fontsize=8, y=1.0)
            axes.tick_params(labelsize=7, length=2)
        figure.supylabel("rate, nats (coloured)", fontsize=8.5, x=0.005)
        figure.supxlabel("epoch", fontsize=8.5, y=0.1 / height)

    left_out = len(everyone) - len(rows)
    return drawn(
        "every_trial",
        draw,
        size=(WIDTH, height),
        alt=f"Small panels of {len(rows)} trials with rate, bits per dim and KL weight by epoch.",
        caption="The coloured line is the rate. The dashed line is bits per dim, from "
        f"{bits[0]:.3g} at the bottom of a panel to {bits[1]:.3g} at its top. Shaded: the trial's "
        "KL weight, from 0 to 1. Above: number, verdict and value, the best first."
        + (f" Not shown: {left_out} trials." if left_out else ""),
        by_hand=True,
    )


def _chosen(rows: list[TrialRow]) -> list[TrialRow]:
    """As many as there is room for: the first half of these, and an even choice of the others."""
    if len(rows) <= MOST_PANELS:
        return rows
    half = MOST_PANELS // 2
    rest = rows[half:]
    return rows[:half] + [rest[i * len(rest) // half] for i in range(half)]


def sigmas(evidence: Evidence) -> Picture | None:
    """The decoder's scale over training, by sigma mode."""
    lines: dict[str, list[History]] = {}
    for row in _seen(evidence, evidence.results.ended):
        history = evidence.histories[row.trial]
        if row.config.sigma and any(_plausible(report.sigma) for report in history):
            lines.setdefault(components.split(row.config.sigma)[0], []).append(history)
    if not set(lines) - {"fixed"}:
        return None
    subject = evidence.subject
    best = evidence.histories.get(subject.trial) if subject else None

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for place, mode in enumerate(sorted(lines)):
            for history in lines[mode]:
                epochs, values = _curve(history, lambda report: report.sigma)
                axes.plot(
                    epochs,
                    [value if _plausible(value) else math.nan for value in values],
                    color=SERIES[place % len(SERIES)],
                    ls=("-", "--", "-.", ":")[place % 4],
                    lw=1.2,
                    alpha=0.8,
                    label=f"{mode} ({len(lines[mode])})" if history is lines[mode][0] else None,
                )
        if best and best.levels is not None:
            axes.plot(
                *_curve(best, lambda report: math.sqrt(report.mse)),
                color=INK,
                lw=2.2,
                ls=(0, (1, 1)),
                label=f"root mean squared error of trial {best.last.trial}",
            )
        axes.set(xlabel="epoch", ylabel="σ of the decoder", yscale="log")
        logarithmic(axes.yaxis)
        axes.legend(ncols=2)

    ends = "; ".join(
        f"{mode} ends at {', '.join(f'{h.last.sigma:.2g}' for h in lines[mode][:6])}"
        for mode in sorted(lines)
    )
    return drawn(
        "sigmas",
        draw,
        size=(WIDTH, 3.4),
        alt=f"The decoder's sigma over the epochs, by mode: {ends}.",
        caption="In units of the data (image values lie in [0, 1]). A Gaussian's analytic optimum "
        "is the root mean squared error, so that an optimal σ falls at once as reconstructions "
        "get better; a learned one follows at the pace of the learning rate (compare Figure 9 of "
        "arXiv 2006.13202).",
    )


def _plausible(sigma: float) -> bool:
    return LOWEST_SIGMA < sigma < HIGHEST_SIGMA


def _seen(evidence: Evidence, rows: Iterable[TrialRow]) -> list[TrialRow]:
    """Those with a curve."""
    return [row for row in rows if len(evidence.histories.get(row.trial) or ())]


def _rate(report: EpochReport) -> float:
    return report.rate_nats


def _curve(
    history: History, number: Callable[[EpochReport], float]
) -> tuple[list[int], list[float]]:
    return [one.epoch for one in history], [number(one) for one in history]


def _limits(evidence: Evidence, number: Callable[[EpochReport], float]) -> tuple[float, float]:
    """Of finished trials, if there are any: the lowest value to nearly the highest.

    First epochs and explosions are cut off.
    """
    rows = _seen(evidence, evidence.finished) or _seen(evidence, evidence.results.rows)
    every = [number(report) for row in rows for report in evidence.histories[row.trial]]
    finite = sorted(filter(math.isfinite, every)) or [0.0]
    low, high = finite[0], finite[int(0.97 * (len(finite) - 1))]
    margin = 0.06 * (high - low) or 0.1
    return low - margin, high + margin


def _shade(axes: Axes, histories: Sequence[History]) -> None:
    """The mean KL weight of some trials, as far as any of them came."""
    last = max(map(len, histories))
    weights = [
        [history.reports[epoch].kl_weight for history in histories if epoch < len(history)]
        for epoch in range(last)
    ]
    axes.fill_between(
        range(1, last + 1),
        [sum(there) / len(there) for there in weights],
        color=WEIGHT,
        lw=0,
        zorder=0,
        transform=axes.get_xaxis_transform(),
    )


def _coloured(
    axes: Axes, row: TrialRow, curve: tuple[list[int], list[float]], *, thick: bool
) -> None:
    colour = COLOURS[Kind(row.kind)]
    axes.plot(*curve, color=colour, lw=2.6 if thick else 1.1, zorder=3 if thick else 2)
    if not row.finished:
        epochs, values = curve
        axes.plot(epochs[-1:], values[-1:], marker="x", ms=5, mew=1.6, color=colour, zorder=4)
