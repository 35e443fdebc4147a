"""What the data's spectrum says of a study before it is trained."""

from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tune_vae.report.text_chart import text_chart
from tune_vae.terminal.words import number, show_facts

if TYPE_CHECKING:
    from pathlib import Path

    from tune_vae.service.study_forecast import StudyForecast

__all__ = ["show_forecast"]

CURVE_STEP = 2
"""Of the points of a forecast's curve, one in so many is printed."""


def show_forecast(out: Console, forecast: "StudyForecast", chart: "Path | None") -> None:
    """What the data's spectrum says of a study."""
    spectrum = forecast.spectrum
    out.print(
        f"study [b cyan]{forecast.study}[/], from {spectrum.rows:,} training examples of "
        f"{spectrum.values:,} values; nothing was trained\n"
    )
    out.print(_decoder_table(forecast))
    for latents, one in forecast.curves.items():
        out.print(f"\n[b]{latents} latents[/]: a linear model, whatever the scale")
        out.print(_curve_table(forecast, latents))
        curve = one.curve()
        out.print("\n[dim]squared error per value against rate in nats[/]")
        rates = [outlook.rate_nats for outlook in curve]
        errors = [outlook.squared_error / spectrum.values for outlook in curve]
        for line in text_chart(rates, errors):
            out.print(line)
    out.print()
    for sentence in forecast.sentences():
        out.print(f"· {escape(sentence)}")
    if chart:
        show_facts(out, {"chart": str(chart)})


def _decoder_table(forecast: "StudyForecast") -> Table:
    table = Table(box=None, pad_edge=False, header_style="b", padding=(0, 2, 0, 0))
    for name in ("decoder", "latents", "dead above beta_norm", "of the range"):
        table.add_column(name, justify="left" if name == "decoder" else "right")
    for one in forecast.decoders:
        known = one.collapse is not None
        table.add_row(
            one.decoder,
            str(one.config.latent_dim),
            f"{one.collapse:.3g}" if known else "not known",
            f"{forecast.dead_of(one):.0%}" if known else "",
        )
    return table


def _curve_table(forecast: "StudyForecast", latents: int) -> Table:
    """Along the curve: where each decoder is there, and what it does."""
    mine = [one for one in forecast.decoders if one.linear and one.config.latent_dim == latents]
    table = Table(box=None, pad_edge=False, header_style="b", padding=(0, 2, 0, 0))
    scales = {one.sigma: one for one in mine}
    names = [f"sigma {scale:g}" if scale else "fitted sigma" for scale in scales]
    for name in (*names, "rate", "error/value", "used", "bits/dim", "sigma"):
        table.add_column(name, justify="right")
    for outlook in mine[0].curve()[::CURVE_STEP]:
        table.add_row(
            *(f"{one.norm_at(outlook):.3g}" for one in scales.values()),
            f"{outlook.rate_nats:.2f}",
            f"{outlook.squared_error / forecast.spectrum.values:.3g}",
            str(outlook.used),
            number(outlook.bits_per_dim),
            f"{outlook.sigma:.3g}",
        )
    return table
