"""The charts of a report, each a function of the evidence; None where there is nothing to show."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from tune_vae.report.drawing import INK, PALE, SERIES, Picture, bare, drawn, logarithmic
from tune_vae.report.evidence import GROUPS, Evidence, group_name, noun
from tune_vae.report.influence import influences
from tune_vae.report.pictures import Gallery
from tune_vae.science.elbo import bits_per_dim
from tune_vae.science.health import Kind
from tune_vae.science.history import EpochReport, History
from tune_vae.service.palette import COLOURS, SIGNS
from tune_vae.service.results import TrialRow
from tune_vae.spec import components

__all__ = [
    "curves",
    "every_trial",
    "latent_rates",
    "latent_scatter",
    "models",
    "objectives",
    "rate_distortion",
    "sigmas",
    "what_mattered",
]

MARKERS = "os^DvPX*<>"
MOST_PANELS = 30
COLUMNS = 6
WIDTH = 9.2
COLLAPSED = (Kind.COLLAPSED, Kind.NEVER_FORMED)


def rate_distortion(evidence: Evidence) -> Picture | None:
    """Every trial that was measured: the finished ones at their best, the others at their end."""
    finished = [row for row in evidence.finished if row.best]
    stopped = [row for row in evidence.results.ended if not row.finished and _ending(row)]
    if not finished:
        return None
    points = {row.trial: _point(evidence, row) for row in (*finished, *stopped)}
    places = [points[row.trial] for row in finished]
    (left, right), (low, high) = (_bounds([p[axis] for p in places]) for axis in (0, 1))
    left, high = min(left, -0.03 * right), high + 0.6 * (high - low)
    inside = [
        row for row in stopped if points[row.trial][0] <= right and points[row.trial][1] <= high
    ]
    front = [
        row
        for row in sorted(finished, key=lambda row: points[row.trial])
        if not any(
            p[0] <= points[row.trial][0]
            and p[1] <= points[row.trial][1]
            and p != points[row.trial]
            for p in places
        )
    ]
    likelihoods = list(
        dict.fromkeys(components.split(row.config.likelihood)[0] for row in (*finished, *inside))
    )
    marker = {name: MARKERS[i % len(MARKERS)] for i, name in enumerate(likelihoods)}
    betas = [row.config.beta_norm for row in (*finished, *inside) if row.config.beta_norm > 0]
    norm = LogNorm(min(betas, default=0.1) * 0.99, max(betas, default=1.0) * 1.01)
    values = finished[0].config.values

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        _lines_of_equal_bits(axes, (left, right), (low, high), values)
        for row in (*inside, *finished):
            x, y = points[row.trial]
            name = components.split(row.config.likelihood)[0]
            axes.scatter(
                [x],
                [y],
                s=58 if row.finished else 40,
                marker=marker[name],
                c=[max(row.config.beta_norm, norm.vmin or 0.0)],
                cmap="cividis",
                norm=norm,
                edgecolors="white" if row.finished else COLOURS[Kind(row.kind)],
                linewidths=0.8 if row.finished else 2.0,
                zorder=3 if row.finished else 2,
            )
        steps = [points[row.trial] for row in front]
        axes.step(*zip(*steps, strict=True), where="post", color=INK, lw=1.1, zorder=1.5)
        subject = evidence.subject
        if subject and subject.trial in points:
            axes.annotate(
                f"trial {subject.trial}",
                points[subject.trial],
                xytext=(12, 16),
                textcoords="offset points",
                weight="bold",
                arrowprops={"arrowstyle": "-", "color": INK, "lw": 0.8},
            )
        axes.set(xlim=(left, right), ylim=(low, high))
        axes.set_xlabel("rate: what the latents say of an image, nats")
        axes.set_ylabel("distortion, bits per dim")
        bar = figure.colorbar(ScalarMappable(norm, "cividis"), ax=axes, pad=0.01, aspect=35)
        bar.set_label("beta_norm")
        logarithmic(bar.ax.yaxis)
        _legend(axes, marker, inside)

    outside = len(stopped) - len(inside)
    alt = (
        f"Rate against distortion of {len(finished)} finished and {len(inside)} stopped trials; "
        f"the front of both holds the trials {', '.join(str(row.trial) for row in front)}."
    )
    caption = (
        "Down is a better reconstruction, left is fewer nats in the latents; at the left edge they "
        "are ignored. The black steps join the trials that no other beats in both. On each thin "
        "line the sum, bits per dim, is the same. Rings are trials that were stopped, in the colour "
        "of their verdict."
    )
    if not evidence.proper:
        caption += " Distortion is that of the calibrated Gaussian, which every likelihood has."
    if outside:
        caption += f" Outside of the picture: {outside} that were stopped."
    return drawn("rate_distortion", draw, size=(WIDTH, 5.0), alt=alt, caption=caption)


def _ending(row: TrialRow) -> EpochReport | None:
    report = row.best if row.finished else row.last
    measured = report and math.isfinite(report.rate_nats + report.bits_per_dim_calibrated)
    return report if measured else None


def _point(evidence: Evidence, row: TrialRow) -> tuple[float, float]:
    report = _ending(row) or row.best or row.last
    assert report is not None
    return report.rate_nats, evidence.distortion_bits(row, report)


def _bounds(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = 0.08 * (high - low) or 0.1 * abs(high) or 0.1
    return low - margin, high + margin


def _lines_of_equal_bits(
    axes: Axes, across: tuple[float, float], along: tuple[float, float], values: int
) -> None:
    slope = bits_per_dim(1.0, values)
    top = along[1] + slope * across[1]
    step = _round_step((top - along[0]) / 8)
    level = math.ceil(along[0] / step) * step
    while level < top:
        axes.plot(across, [level - slope * x for x in across], color=PALE, lw=0.8, zorder=0.5)
        # Named where it leaves the picture, at the left or at the top.
        x = max(across[0], (level - along[1]) / slope)
        if x < across[0] + 0.9 * (across[1] - across[0]):
            axes.text(
                x,
                min(level - slope * x, along[1]),
                f" {level:g}",
                color="#8a949e",
                fontsize=7,
                va="top",
                clip_on=True,
            )
        level = round(level + step, 10)


def _round_step(rough: float) -> float:
    """1, 2, 2.5 or 5 times a power of ten, at least as large."""
    power: float = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough)


def _legend(axes: Axes, marker: dict[str, str], stopped: Sequence[TrialRow]) -> None:
    plain = {"color": "none", "markersize": 7}
    handles = [
        Line2D(
            [],
            [],
            marker=shape,
            markerfacecolor="#5b6570",
            markeredgecolor="w",
            label=name,
            **plain,
        )  # type: ignore[arg-type]
        for name, shape in marker.items()
    ]
    handles += [
        Line2D(
            [],
            [],
            marker="o",
            markerfacecolor="w",
            markeredgecolor=COLOURS[kind],
            markeredgewidth=2,
            label=kind.value.replace("_", " "),
            **plain,
        )  # type: ignore[arg-type]
        for kind in dict.fromkeys(Kind(row.kind) for row in stopped)
    ]
    axes.legend(handles=handles, loc="upper right", ncols=2 if len(handles) > 5 else 1)


def objectives(evidence: Evidence) -> Picture | None:
    """The two objectives of the finished trials, with the front and its knee."""
    rows, results = evidence.finished, evidence.results
    if len(results.objective) < 2 or not rows:
        return None
    front, knee = results.front, results.knee

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        steps = [row.values for row in front]
        axes.step(*zip(*steps, strict=True), where="post", color=INK, lw=1.1, zorder=1)
        for row in rows:
            axes.scatter(*row.values, s=46, color=COLOURS[Kind(row.kind)], ec="white", zorder=3)
        for row in front:
            axes.annotate(
                str(row.trial), row.values, xytext=(5, 5), textcoords="offset points", fontsize=8
            )
        if knee:
            axes.scatter(*knee.values, s=170, facecolors="none", edgecolors=INK, lw=1.6, zorder=4)
        axes.set(xlabel=noun(results.objective[0]), ylabel=noun(results.objective[1]))

    told = f"; its knee is trial {knee.trial}" if knee else ""
    return drawn(
        "front",
        draw,
        size=(WIDTH, 4.4),
        alt=f"{results.objective[0]} against {results.objective[1]} of {len(rows)} finished trials. "
        f"The front holds trials {', '.join(str(row.trial) for row in front)}{told}.",
        caption="Both are minimised. The steps join the trials that no other beats in both."
        + (" The circle is the knee, where the front bends most." if knee else ""),
    )


def curves(evidence: Evidence) -> Picture | None:
    """Bits per dim and rate over the epochs, one column for each way in which trials ended."""
    columns = [rows for kinds in GROUPS if (rows := _with_curves(evidence, kinds))]
    if not columns:
        return None
    whole = [h for h in evidence.histories.values() if len(h)]
    finished = [
        evidence.histories[row.trial]
        for row in evidence.finished
        if row.trial in evidence.histories
    ]
    top = _scale([evidence.bits(one) for h in finished or whole for one in h])
    rate = _scale([one.rate_nats for h in finished or whole for one in h])

    def draw(figure: Figure) -> None:
        grid = figure.subplots(2, len(columns), sharex=True, sharey="row", squeeze=False)
        for place, rows in enumerate(columns):
            for line, number in enumerate((evidence.bits, _rate)):
                axes = grid[line][place]
                _shade(axes, [evidence.histories[row.trial] for row in rows])
                for history in whole:
                    axes.plot(*_curve(history, number), color=PALE, lw=0.7, zorder=1)
                for row in rows:
                    _coloured(axes, row, *_curve(evidence.histories[row.trial], number), evidence)
            colour = INK if rows[0].finished else COLOURS[Kind(rows[0].kind)]
            title = f"{group_name(rows)}: {len(rows)}".replace(" or ", "\nor ")
            grid[0][place].set_title(title, color=colour)
            grid[1][place].set_xlabel("epoch")
        grid[0][0].set(ylabel="bits per dim", ylim=top)
        grid[1][0].set(ylabel="rate, nats", ylim=rate)

    shown = sum(map(len, columns))
    subject = evidence.subject
    thick = f"; the thick line is trial {subject.trial}" if subject else ""
    alt = f"Validation bits per dim and rate over the epochs of {shown} trials: " + ", ".join(
        f"{len(rows)} {group_name(rows)}" for rows in columns
    )
    return drawn(
        "curves",
        draw,
        size=(WIDTH, 4.6),
        alt=f"{alt}.",
        caption="Validation, at beta = 1. Grey lines are all other trials; a cross marks where a "
        f"trial was stopped{thick}. Shaded: the KL weight, averaged over the trials of the column, "
        "from 0 at the bottom to 1 at the top.",
    )


def _with_curves(evidence: Evidence, kinds: Sequence[Kind]) -> list[TrialRow]:
    return [row for row in evidence.group(kinds) if len(evidence.histories.get(row.trial) or ())]


def _rate(report: EpochReport) -> float:
    return report.rate_nats


def _curve(history: History, number: object) -> tuple[list[int], list[float]]:
    assert callable(number)
    return [one.epoch for one in history], [float(number(one)) for one in history]


def _scale(values: Sequence[float]) -> tuple[float, float]:
    """From the lowest to nearly the highest: first epochs and explosions are cut."""
    finite = sorted(value for value in values if math.isfinite(value))
    if not finite:
        return 0.0, 1.0
    low, high = finite[0], finite[min(len(finite) - 1, int(0.97 * len(finite)))]
    margin = 0.06 * (high - low) or 0.1
    return low - margin, high + margin


def _shade(axes: Axes, histories: Sequence[History]) -> None:
    last = max(len(history) for history in histories)
    weights = []
    for epoch in range(last):
        there = [h.reports[epoch].kl_weight for h in histories if epoch < len(h)]
        weights.append(sum(there) / len(there))
    axes.fill_between(
        range(1, last + 1),
        weights,
        color="#f0e9da",
        lw=0,
        zorder=0,
        transform=axes.get_xaxis_transform(),
    )


def _coloured(
    axes: Axes, row: TrialRow, epochs: list[int], values: list[float], evidence: Evidence
) -> None:
    best = evidence.subject is not None and row.trial == evidence.subject.trial
    colour = COLOURS[Kind(row.kind)]
    axes.plot(epochs, values, color=colour, lw=2.6 if best else 1.1, zorder=3 if best else 2)
    if not row.finished:
        axes.plot(epochs[-1:], values[-1:], marker="x", ms=5, mew=1.6, color=colour, zorder=4)


def every_trial(evidence: Evidence) -> Picture | None:
    """One small panel a trial, with its own KL weight."""
    rows = [row for row in evidence.finished if row.trial in evidence.histories]
    rows += [
        row
        for kinds in GROUPS
        for row in _with_curves(evidence, kinds)
        if row.trial not in {one.trial for one in rows}
    ]
    everyone = len(rows)
    if everyone > MOST_PANELS:
        # The best half, and an even choice of the others.
        half = MOST_PANELS // 2
        rest = rows[half:]
        rows = rows[:half] + [rest[i * len(rest) // half] for i in range(half)]
    if not rows:
        return None
    histories = [evidence.histories[row.trial] for row in rows]
    fair = [h for h, row in zip(histories, rows, strict=True) if row.finished] or histories
    bits = _scale([evidence.bits(one) for h in fair for one in h])
    rate = _scale([one.rate_nats for h in fair for one in h])
    lines = math.ceil(len(rows) / COLUMNS)

    def draw(figure: Figure) -> None:
        height = figure.get_figheight()
        grid = figure.subplots(
            lines,
            COLUMNS,
            sharex=True,
            sharey=True,
            squeeze=False,
            gridspec_kw={
                "left": 0.06,
                "right": 0.995,
                "top": 1 - 0.22 / height,
                "bottom": 0.45 / height,
                "hspace": 0.32,
                "wspace": 0.08,
            },
        )
        for place, axes in enumerate(grid.flat):
            if place >= len(rows):
                axes.set_visible(False)
                continue
            row, history = rows[place], histories[place]
            colour = COLOURS[Kind(row.kind)]
            _shade(axes, [history])
            axes.plot(*_curve(history, _rate), color=colour, lw=1.6, zorder=2)
            # The second number in the panel's own height: a second axis for each costs seconds.
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
            axes.set_title(f"{row.trial} {SIGNS[Kind(row.kind)]}{value}", color=colour, fontsize=8)
            axes.set(xlim=(1, max(2, history.epochs)), ylim=(min(0.0, rate[0]), rate[1]))
            axes.tick_params(labelsize=7, length=2)
        figure.supylabel("rate, nats (coloured)", fontsize=8.5, x=0.005)
        figure.supxlabel("epoch", fontsize=8.5, y=0.1 / height)

    choice = f" {len(rows)} of {everyone} trials are shown." if everyone > len(rows) else ""
    return drawn(
        "every_trial",
        draw,
        size=(WIDTH, 0.5 + 1.25 * lines),
        alt=f"Small panels of {len(rows)} trials with rate, bits per dim and KL weight by epoch.",
        layout="none",
        caption="The coloured line is the rate. The dashed line is bits per dim, from "
        f"{bits[0]:.3g} at the bottom of a panel to {bits[1]:.3g} at its top. Shaded: the trial's KL "
        "weight, from 0 to 1. Above: number, verdict and value, the best first." + choice,
    )


def sigmas(evidence: Evidence) -> Picture | None:
    """The decoder's scale over training, by sigma mode."""
    lines: dict[str, list[History]] = {}
    for row in evidence.results.ended:
        history = evidence.histories.get(row.trial)
        mode = components.split(row.config.sigma)[0] if row.config.sigma else ""
        if mode and history and sum(_plausible(one.sigma) for one in history) > 1:
            lines.setdefault(mode, []).append(history)
    if not set(lines) - {"fixed"}:
        return None
    modes = sorted(lines)
    colour = {mode: SERIES[i % len(SERIES)] for i, mode in enumerate(modes)}
    dashes = dict(zip(modes, ("-", "--", "-.", ":") * len(modes), strict=False))
    subject = evidence.subject
    best = evidence.histories.get(subject.trial) if subject else None

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for mode in modes:
            for number, history in enumerate(lines[mode]):
                told = [one for one in history if _plausible(one.sigma)]
                axes.plot(
                    [one.epoch for one in told],
                    [one.sigma for one in told],
                    color=colour[mode],
                    ls=dashes[mode],
                    lw=1.2,
                    alpha=0.8,
                    label=f"{mode} ({len(lines[mode])})" if not number else None,
                )
        if best:
            axes.plot(
                [one.epoch for one in best],
                [math.sqrt(one.mse) for one in best],
                color=INK,
                lw=2.2,
                ls=(0, (1, 1)),
                label=f"root mean squared error of trial {best.last.trial}",
            )
        axes.set(xlabel="epoch", ylabel="σ of the decoder", yscale="log")
        logarithmic(axes.yaxis)
        axes.legend(ncols=2)

    alt = "The decoder's sigma over the epochs, by mode: " + "; ".join(
        f"{mode} ends at {', '.join(f'{h.last.sigma:.2g}' for h in lines[mode][:6])}"
        for mode in modes
    )
    return drawn(
        "sigmas",
        draw,
        size=(WIDTH, 3.4),
        alt=f"{alt}.",
        caption="On validation images; in units of the data, which lie in [0, 1]. The analytic "
        "optimum is the root mean squared error, so an optimal σ falls as reconstructions get "
        "better, at once; a learned one follows at the pace of the learning rate "
        "(compare Figure 9 of arXiv 2006.13202).",
    )


def _plausible(sigma: float) -> bool:
    return math.isfinite(sigma) and 1e-4 < sigma < 100


def latent_rates(row: TrialRow, limit: float) -> Picture | None:
    """The rate of each latent of one trial, the largest first."""
    if row.best is None:
        return None
    rates = sorted(row.best.rate_per_latent_nats, reverse=True)
    used = sum(rate >= limit for rate in rates)

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        colours = [SERIES[0] if rate >= limit else "#aab2ba" for rate in rates]
        axes.bar(range(1, len(rates) + 1), rates, color=colours, width=0.8)
        axes.set(xlabel="latent, by rate", ylabel="rate, nats")
        axes.grid(axis="x", visible=False)
        if len(rates) <= 20:
            axes.set_xticks(range(1, len(rates) + 1))

    return drawn(
        "latent_rates",
        draw,
        size=(WIDTH / 2, 3.0),
        alt=f"Rate of each of the {len(rates)} latents of trial {row.trial}: "
        f"{', '.join(f'{rate:.2g}' for rate in rates[:20])} nats.",
        caption=f"Trial {row.trial}: {used} of {len(rates)} latents carry {limit:g} nats or more "
        "(blue). Their sum is the rate.",
    )


def latent_scatter(
    row: TrialRow, plane_n2: Tensor, shares: tuple[float, float], labels_n: Tensor | None
) -> Picture:
    """Posterior means of held-out examples in the plane of their largest spread."""
    classes = sorted(set(labels_n.tolist())) if labels_n is not None else []
    few = 1 < len(classes) <= 12

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        if few and labels_n is not None:
            for place, label in enumerate(classes):
                mine = plane_n2[labels_n == label]
                colour = SERIES[place % len(SERIES)]
                # Colours repeat; the number says which class it is.
                axes.scatter(*mine.T.tolist(), s=9, color=colour, alpha=0.45, lw=0)
                axes.text(
                    *mine.median(0).values.tolist(),
                    str(label),
                    color="white",
                    weight="bold",
                    ha="center",
                    va="center",
                    bbox={"boxstyle": "circle,pad=0.25", "fc": colour, "ec": "white"},
                )
        else:
            axes.scatter(*plane_n2.T.tolist(), s=9, color=SERIES[0], alpha=0.5, lw=0)
        axes.set(xlabel=f"{shares[0]:.0%} of the variance", ylabel=f"{shares[1]:.0%}")

    by_class = f", by class ({len(classes)})" if few else ""
    return drawn(
        "latent_scatter",
        draw,
        size=(WIDTH / 2, 3.0),
        alt=f"Posterior means of {len(plane_n2)} held-out examples of trial {row.trial} in two "
        f"principal directions with {sum(shares):.0%} of their variance{by_class}.",
        caption=f"Trial {row.trial}: where {len(plane_n2)} held-out examples lie in the latent space, "
        f"seen from the side of their largest spread{'; the numbers are classes' if few else ''}.",
    )


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
        panels = figure.subplot_mosaic(
            [["share", "share", "decoder", "decoder"], ["a", "a", "b", "b"]]
            if numbers
            else [["share", "share", "decoder", "decoder"]],
            height_ratios=[1.0, 1.0] if numbers else [1.0],
        )
        axes = panels["share"]
        for line, one in enumerate(reversed(found)):
            colour = SERIES[0] if one.certain else "#c5ccd3"
            axes.barh(line, one.share, color=colour, height=0.62)
            axes.text(one.share + 0.015, line, f"{one.share:.0%}", va="center", fontsize=8)
        axes.set_yticks(range(len(found)), [one.knob for one in reversed(found)])
        axes.set(xlim=(0, 1.12), title="share of the spread of ranks")
        axes.grid(axis="y", visible=False)
        _strip(panels["decoder"], rows, decoders, place)
        panels["decoder"].set(xlabel=name, title="by decoder")
        for panel, knob in zip("ab", numbers, strict=False):
            _against(panels[panel], rows, knob, place)
            panels[panel].set(xlabel=knob, ylabel=name)
        if len(numbers) == 1:
            panels["b"].set_visible(False)

    told = ", ".join(f"{one.knob} {one.share:.0%}" for one in found)
    grey = [one.knob for one in found if not one.certain]
    return drawn(
        f"what_mattered_{place + 1}",
        draw,
        size=(WIDTH, 5.2 if numbers else 2.8),
        alt=f"Share of the spread of the finished trials' ranks by {name} that each knob tells: "
        f"{told}.",
        caption=f"How much of the ranks by {name} of {len(rows)} finished trials a knob tells "
        "alone, numbers in three groups, adjusted for chance; decoder is likelihood and sigma mode as one. "
        + (f"Grey: as much may be chance ({', '.join(grey)}). " if grey else "")
        + ("With fewer than some 50 trials, take it as a hint. " if len(rows) < 50 else "")
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


def models(shown: Sequence[tuple[str, TrialRow, Gallery]]) -> list[Picture]:
    """What some models draw, a picture each."""
    return [_model(title, row, gallery) for title, row, gallery in shown]


def _model(title: str, row: TrialRow, gallery: Gallery) -> Picture:
    panels = (
        ("held-out image | reconstruction", gallery.reconstructions),
        ("samples from the prior", gallery.samples),
        ("one latent moved at a time", gallery.traversals),
    )

    def draw(figure: Figure) -> None:
        engine = figure.get_layout_engine()
        assert engine is not None
        engine.set(wspace=0.05)
        ratios = [image.shape[1] / image.shape[0] for _, image in panels]
        for axes, (name, image) in zip(
            figure.subplots(1, 3, width_ratios=ratios), panels, strict=True
        ):
            grey = image.shape[2] == 1
            axes.imshow(
                (image[:, :, 0] if grey else image).numpy(),
                cmap="gray" if grey else None,
                vmin=0,
                vmax=1,
                interpolation="nearest" if max(image.shape[:2]) < 400 else "auto",
            )
            axes.set_title(name, weight="normal", fontsize=8.5)
            bare(axes)

    return drawn(
        f"trial_{row.trial:03d}",
        draw,
        size=(WIDTH, 3.3),
        alt=f"Reconstructions, samples and traversals of trial {row.trial}, {title}.",
        caption=f"Trial {row.trial}, {title}. Traversals from −3 to 3 standard deviations of "
        f"latents {', '.join(map(str, gallery.moved))}, those with the highest rate, from the top.",
    )
