"""The chart of a forecast: which rate buys which error, before anything is trained."""

from matplotlib.figure import Figure

from tune_vae.report.drawing import INK, SERIES, WIDTH, Picture, drawn
from tune_vae.service.study_forecast import StudyForecast

__all__ = ["foresight"]


def foresight(forecast: StudyForecast) -> Picture | None:
    """The forecast curves of rate against squared error, one for each latent size.

    None if no decoder of the study has one.
    """
    curves = forecast.curves
    if not curves:
        return None
    values = forecast.spectrum.values

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for colour, (latents, one) in zip(SERIES * len(curves), curves.items(), strict=False):
            curve = one.curve()
            axes.plot(
                [outlook.rate_nats for outlook in curve],
                [outlook.squared_error / values for outlook in curve],
                color=colour,
                marker="o",
                ms=3,
                label=f"{latents} latents",
            )
            calibrated = one.linear.at(1.0) if one.linear else curve[0]
            axes.annotate(
                "beta 1, fitted sigma",
                (calibrated.rate_nats, calibrated.squared_error / values),
                xytext=(10, 12),
                textcoords="offset points",
                arrowprops={"arrowstyle": "-", "color": INK, "lw": 0.8},
            )
        axes.set(xlabel="rate, nats", ylabel="squared error per value", ylim=(0, None))
        axes.legend(loc="upper right")

    return drawn(
        "forecast",
        draw,
        size=(WIDTH, 4.4),
        alt=f"Forecast rate against squared error per value, for {len(curves)} latent sizes.",
        caption="What a linear model would reach, from the spectrum of the training data. Deeper "
        "ones lie below; the right end of a curve is the lower proposed bound, its left end the "
        "collapse.",
    )
