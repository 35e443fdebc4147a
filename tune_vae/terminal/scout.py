"""What scouts saw of a study."""

import math
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tune_vae.terminal.words import number, show_facts

if TYPE_CHECKING:
    from pathlib import Path

    from tune_vae.service.scouted import Scouted

__all__ = ["show_scouts"]


def show_scouts(out: Console, scouts: "list[Scouted]", chart: "Path | None") -> None:
    """A table along β for each decoder, and what it proposes."""
    for one in scouts:
        config = one.config
        out.print(
            f"\n[b]{escape(config.decoder)}[/], {config.latent_dim} latents: one training for all "
            f"beta, {one.seconds:.0f} s"
        )
        if not one.curve:
            out.print("· Its loss was lost; try again with a smaller learning rate.")
            continue
        out.print(_table(one))
        for sentence in _sentences(one):
            out.print(f"· {escape(sentence)}")
    out.print("· A scout has one network for all beta: its numbers rank no trial.")
    if chart:
        show_facts(out, {"chart": str(chart)})


def _table(one: "Scouted") -> Table:
    table = Table(box=None, pad_edge=False, header_style="b", padding=(0, 2, 0, 0))
    for name in ("beta_norm", "rate", "error/value", "bits/dim", "calibrated"):
        table.add_column(name, justify="right")
    for sighting in one.curve:
        table.add_row(
            f"{one.norm(sighting):.3g}",
            f"{sighting.rate_nats:.2f}",
            f"{sighting.mse:.3g}",
            number(sighting.bits_per_dim),
            number(sighting.bits_per_dim_calibrated),
        )
    return table


def _sentences(one: "Scouted") -> list[str]:
    told = []
    if one.best and one.bounds:
        own = "" if math.isfinite(one.best.bits_per_dim) else "calibrated "
        told.append(
            f"Fewest {own}bits per dim at beta_norm {one.norm(one.best):.2g}, with "
            f"{one.best.rate_nats:.1f} nats: a first trial."
        )
    if one.collapse:
        told.append(f"Its latents carry nothing from beta_norm {one.collapse:.2g} on.")
    if one.bounds:
        low, high = one.bounds
        told.append(
            f"Proposed: `beta_norm: {{log_uniform: [{low:.1e}, {high:.1e}]}}`; `beta_norm: auto` "
            "takes it where there is no forecast."
        )
    else:
        told.append(
            "It has the fewest bits where its latents carry nothing: nothing is proposed. More "
            "epochs may tell more."
        )
    return told
