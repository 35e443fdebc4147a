"""What MLflow's page of a study says."""

from typing import TYPE_CHECKING

from tune_vae.service.certainty import certainty
from tune_vae.service.regions import regions
from tune_vae.terminal.words import short_name, word

if TYPE_CHECKING:
    from tune_vae.service.desk import Snapshot

__all__ = ["note"]


def note(snapshot: "Snapshot") -> str:
    """What MLflow's page says of a study; its first line is all that shows at first."""
    results = snapshot.results
    counts = ", ".join(f"{count} {word(kind)}" for kind, count in results.counts.items())
    if results.winner:
        row = results.winner
        first = (
            f"**{'Winner' if results.proven else 'Best'} {row.values[0]:.4g} "
            f"{short_name(results.objective[0])}** "
            f"(trial {row.trial}: {row.config.decoder}, "
            f"beta_norm {row.config.beta_norm:.3g}, {row.config.schedule_name})"
        )
    else:
        first = (
            f"**{len(results.front)} trials on the front**" if results.front else "**No winner**"
        )
    told = f"{first} · {counts}" if counts else first
    means = [f"- trial {one.row.trial}: {one}" for one in results.finalists]
    where = [f"- {found.sentence}" for found in regions(results.rows)]
    return "\n\n".join(filter(None, [told, certainty(results), "\n".join([*means, *where])]))
