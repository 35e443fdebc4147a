"""What models draw: reconstructions, samples and traversals, as grids of pixels.

Shapes: n examples, M latent, C H W image.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tune_vae.science.vae import VAE

__all__ = [
    "DRAWINGS",
    "Gallery",
    "enlarged",
    "gallery",
    "grid",
    "is_drawn",
    "principal_plane",
]

DRAWINGS = ("reconstructions", "samples", "traversals")
SIDE = 6
STEPS = 7
REACH = 3.0
"""How far a traversal goes to either side, in standard deviations of the latent over the data."""


@dataclass(frozen=True)
class Gallery:
    """Three grids of one model, `[H, W, C]` in [0, 1].

    Arguments:
        reconstructions: Columns in pairs: a held-out image, and what the model makes of it.
        samples: Decoded draws from the prior.
        traversals: A row for each of the latents with the highest rate, which moves alone
            through one image's latents.
        moved: Which latents these are, from the top.
    """

    reconstructions: Tensor
    samples: Tensor
    traversals: Tensor
    moved: tuple[int, ...]

    def drawings(self) -> dict[str, Tensor]:
        """The grids by name, in 256 levels on the host: small enough to keep."""
        grids = {name: getattr(self, name) for name in DRAWINGS}
        return {name: (255 * grid).round().byte().cpu() for name, grid in grids.items()}


def enlarged(pixels_HWC: Tensor, side: int) -> Tensor:
    """Each pixel as a square of whole pixels, so that the longer side has at least so many."""
    factor = -(-side // max(pixels_HWC.shape[:2]))
    return pixels_HWC.repeat_interleave(factor, 0).repeat_interleave(factor, 1)


def is_drawn(epoch: int) -> bool:
    """Whether a trial is drawn after an epoch: 0, 1, 2, 4, 8 and so on, for a long one is many.

    Example:
        >>> [epoch for epoch in range(40) if is_drawn(epoch)]
        [0, 1, 2, 4, 8, 16, 32]
    """
    return epoch & (epoch - 1) == 0


@torch.no_grad()
def gallery(vae: VAE, held_out: Tensor, label_n: Tensor | None = None) -> Gallery:
    """Pictures of a model in evaluation mode.

    Arguments:
        vae: A model of images.
        held_out: Images `[n, C, H, W]` in [0, 1], at least 18.
        label_n: Their classes, for a conditional model; others ignore them.
    """
    shown = held_out[: SIDE * SIDE // 2]
    shown_labels = None if label_n is None else label_n[: len(shown)]
    first_label = None if label_n is None else label_n[:1].repeat(STEPS)
    pairs = torch.stack([shown, vae.reconstruct(shown, shown_labels)], dim=1).flatten(0, 1)
    mean_nM, log_variance_nM = vae.encode(held_out, label_n)
    noise_nM = torch.zeros_like(mean_nM)
    rate_M = vae(held_out, noise_nM, label_n).rate_BM.mean(0)
    moved = rate_M.argsort(descending=True)[:SIDE]
    centre_M = mean_nM.mean(0)
    spread_M = (mean_nM.var(0, correction=0) + log_variance_nM.exp().mean(0)).sqrt()
    rows = []
    for latent in moved:
        latent_nM = mean_nM[:1].repeat(STEPS, 1)
        offsets = torch.linspace(-REACH, REACH, STEPS, device=latent_nM.device)
        latent_nM[:, latent] = centre_M[latent] + offsets * spread_M[latent]
        rows.append(vae.likelihood.mean(vae.decode(latent_nM, label_B=first_label)))
    return Gallery(
        reconstructions=grid(pairs, SIDE),
        samples=grid(vae.generate(SIDE * SIDE), SIDE),
        traversals=grid(torch.cat(rows), STEPS),
        moved=tuple(moved.tolist()),
    )


def grid(images: Tensor, columns: int) -> Tensor:
    """Images `[n, C, H, W]` in rows of so many, with white lines between, `[H', W', C]`.

    Of images with neither one nor three channels, the first channel is shown.
    """
    images = images if images.shape[1] in (1, 3) else images[:, :1]
    framed = torch.nn.functional.pad(images.clamp(0, 1).nan_to_num(0.5), (0, 1, 0, 1), value=1.0)
    lines = [framed[start : start + columns] for start in range(0, len(framed), columns)]
    rows = [torch.cat(list(line), dim=2) for line in lines if len(line) == len(lines[0])]
    whole: Tensor = torch.cat(rows, dim=1)[:, :-1, :-1]
    return whole.permute(1, 2, 0)


@torch.no_grad()
def principal_plane(
    vae: VAE, held_out: Tensor, label_n: Tensor | None = None
) -> tuple[Tensor, tuple[float, float]]:
    """Posterior means in the plane of their largest spread, `[n, 2]`, and the shares of variance.

    With one latent the second coordinate is 0.
    """
    mean_nM = vae.encode(held_out, label_n)[0].double()
    centred_nM = mean_nM - mean_nM.mean(0)
    _, scale, axes = torch.linalg.svd(centred_nM, full_matrices=False)
    share = scale.square() / scale.square().sum().clamp(min=1e-300)
    plane = centred_nM @ axes[:2].T
    if plane.shape[1] < 2:
        plane, share = torch.nn.functional.pad(plane, (0, 1)), torch.cat([share, share * 0])
    return plane, (float(share[0]), float(share[1]))
