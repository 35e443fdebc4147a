"""Charts of single models: what they draw, and what their latents hold."""

from matplotlib.figure import Figure
from torch import Tensor

from tune_vae.report.drawing import SERIES, WIDTH, Picture, bare, drawn
from tune_vae.service.rows import TrialRow
from tune_vae.training.gallery import Gallery

__all__ = ["latent_rates", "latent_scatter", "portrait"]

MOST_CLASSES = 12
MOST_NUMBERED = 20


def portrait(title: str, row: TrialRow, gallery: Gallery) -> Picture:
    """What a model draws: reconstructions, samples, traversals."""
    panels = {
        "held-out image | reconstruction": gallery.reconstructions,
        "samples from the prior": gallery.samples,
        "one latent moved at a time": gallery.traversals,
    }

    def draw(figure: Figure) -> None:
        ratios = [image.shape[1] / image.shape[0] for image in panels.values()]
        room = {"left": 0.005, "right": 0.995, "top": 0.92, "bottom": 0.01, "wspace": 0.06}
        grid = figure.subplots(1, 3, width_ratios=ratios, gridspec_kw=room)
        for axes, (name, image) in zip(grid, panels.items(), strict=True):
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
        size=(WIDTH, 3.15),
        alt=f"Reconstructions, samples and traversals of trial {row.trial}, {title}.",
        caption=f"Trial {row.trial}, {title}. Traversals from −3 to 3 standard deviations of "
        f"latents {', '.join(map(str, gallery.moved))}, from the top: those of the highest rate.",
        by_hand=True,
    )


def latent_rates(row: TrialRow, limit: float) -> Picture | None:
    """The rate of each latent of one trial, the largest first.

    Arguments:
        row: The trial.
        limit: Nats from which on a latent counts as used.
    """
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
        if len(rates) <= MOST_NUMBERED:
            axes.set_xticks(range(1, len(rates) + 1))

    told = ", ".join(f"{rate:.2g}" for rate in rates[:MOST_NUMBERED])
    return drawn(
        "latent_rates",
        draw,
        size=(WIDTH / 2, 3.0),
        alt=f"Rate of each of the {len(rates)} latents of trial {row.trial}: {told} nats.",
        caption=f"Trial {row.trial}: {used} of {len(rates)} latents carry {limit:g} nats or more "
        "(blue). Their sum is the rate.",
    )


def latent_scatter(
    row: TrialRow, plane_n2: Tensor, shares: tuple[float, float], labels_n: Tensor | None
) -> Picture:
    """Posterior means of held-out examples in the plane of their largest spread.

    Arguments:
        row: The trial.
        plane_n2, shares: See `principal_plane`.
        labels_n: Classes, if they are known.
    """
    classes = sorted(set(labels_n.tolist())) if labels_n is not None else []
    told_apart = 1 < len(classes) <= MOST_CLASSES

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        parts = [plane_n2[labels_n == label] for label in classes] if told_apart else [plane_n2]
        for place, part in enumerate(parts):
            # Colours repeat after eight; the number says which class it is.
            colour = SERIES[place % len(SERIES)]
            axes.scatter(
                part[:, 0].tolist(), part[:, 1].tolist(), s=9, color=colour, alpha=0.5, lw=0
            )
            if told_apart:
                x, y = part.median(0).values.tolist()
                label = {"boxstyle": "circle,pad=0.25", "fc": colour, "ec": "white"}
                axes.text(
                    x,
                    y,
                    str(classes[place]),
                    color="white",
                    weight="bold",
                    ha="center",
                    va="center",
                    bbox=label,
                )
        axes.set(xlabel=f"{shares[0]:.0%} of the variance", ylabel=f"{shares[1]:.0%}")

    return drawn(
        "latent_scatter",
        draw,
        size=(WIDTH / 2, 3.0),
        alt=f"Posterior means of {len(plane_n2)} held-out examples of trial {row.trial} in two "
        f"principal directions with {sum(shares):.0%} of their variance"
        + (f", by class ({len(classes)})." if told_apart else "."),
        caption=f"Trial {row.trial}: {len(plane_n2)} held-out examples in the latent space, seen "
        "from the side of their largest spread"
        + ("; the numbers are classes." if told_apart else "."),
    )
