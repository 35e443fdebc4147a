"""The chart of what was known beforehand: forecast, scout and measured trials in one picture."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tune_vae.report.drawing import INK, SERIES, WIDTH, Picture, drawn
from tune_vae.service.rows import TrialRow
from tune_vae.service.scouted import Scouted
from tune_vae.service.study_forecast import DecoderForecast, StudyForecast

__all__ = ["foresight"]


def foresight(
    forecast: StudyForecast,
    scouts: Sequence[Scouted] = (),
    rows: Sequence[TrialRow] = (),
) -> Picture | None:
    """Rate against squared error, the two numbers that every decoder has.

    Arguments:
        forecast: Of the study; a curve for each latent size of which a decoder has one.
        scouts: A curve for each decoder that was scouted.
        rows: Trials; those that finished are points.

    Returns:
        None if there is nothing but trials, or nothing at all.
    """
    curves, values = forecast.curves, forecast.spectrum.values
    seen = [one for one in scouts if one.curve]
    if not (curves or seen):
        return None
    measured = [(row, row.best) for row in rows if row.finished and row.best]

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        colours = iter(SERIES * (len(curves) + len(seen)))
        for latents, one in curves.items():
            _forecast(axes, next(colours), f"forecast, {latents} latents", one, values)
        for scouted in seen:
            axes.plot(
                [sighting.rate_nats for sighting in scouted.curve],
                [sighting.mse for sighting in scouted.curve],
                color=next(colours),
                ls="--",
                marker="s",
                ms=3,
                label=f"scout, {scouted.config.decoder}, {scouted.config.latent_dim} latents",
            )
        if measured:
            axes.scatter(
                [report.rate_nats for _, report in measured],
                [report.mse for _, report in measured],
                color=INK,
                s=16,
                zorder=3,
                label="finished trials",
            )
        axes.set(xlabel="rate, nats", ylabel="squared error per value", ylim=(0, None))
        axes.legend(loc="upper right")

    return drawn(
        "forecast",
        draw,
        size=(WIDTH, 4.4),
        alt=f"Rate against squared error per value: {len(curves)} forecast and {len(seen)} "
        f"scouted curves, and {len(measured)} finished trials.",
        caption=(_FORECAST if curves else "")
        + (_SCOUT if seen else "")
        + (_MEASURED if measured else ""),
    )


_FORECAST = (
    "Solid is what a linear model would reach, from the spectrum of the training data. Deeper "
    "ones lie below; the right end of a curve is the lower proposed bound, its left end the "
    "collapse. "
)
_SCOUT = "Dashed is what one training for all beta at once saw; it ranks no trial. "
_MEASURED = "Points are trials, at their best epoch. "


def _forecast(axes: Axes, colour: str, label: str, one: DecoderForecast, values: int) -> None:
    curve = one.curve()
    axes.plot(
        [outlook.rate_nats for outlook in curve],
        [outlook.squared_error / values for outlook in curve],
        color=colour,
        marker="o",
        ms=3,
        label=label,
    )
    calibrated = one.linear.at(1.0) if one.linear else curve[0]
    axes.annotate(
        "beta 1, fitted sigma",
        (calibrated.rate_nats, calibrated.squared_error / values),
        xytext=(10, 12),
        textcoords="offset points",
        arrowprops={"arrowstyle": "-", "color": INK, "lw": 0.8},
    )
