"""Shapes drawn on the spot, for trials and tests without any file."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tune_vae.data import Dataset, Splits
from tune_vae.data.carving import Examples, check_arguments, divide

__all__ = ["Synthetic"]

_SHAPES, _SCALES, _PLACES, _SHADES = 3, 4, 16, 5
_ALL = _SHAPES * _SCALES * _PLACES * _PLACES * _SHADES


@dataclass(frozen=True)
class Synthetic(Dataset):
    r"""Up to 15,360 grey images of one shape on black ground, each other than all others.

    | factor | of which | value                                                                |
    |--------|----------|----------------------------------------------------------------------|
    | shape  | 3        | square, disc, diamond: of the distance d below, r more than the edge |
    | scale  | 4        | r from 0.10 to 0.22 of the image's height                            |
    | x, y   | 16, 16   | the centre, from 0.25 to 0.75 of the width and the height            |
    | shade  | 5        | s from 0.4 to 1                                                      |

    $$ d = \max(|u|, |v|), \; \sqrt{u^2 + v^2}, \; \text{or} \; |u| + |v| $$

    where u and v are a pixel's distance from the centre. Edges are smooth: a pixel has the
    level 255 s times the share of it that the shape covers, roughly. The label is the shape. All
    factors are equally frequent and independent.

    Arguments:
        size: Height and width in pixels, at least 8.
        examples: How many are drawn, without repetition, up to 15,360.
        validation: Number of images for validation.
        test: Number of images for testing.
        seed: Of which ones are drawn.
        split_seed: Seed of the shuffle.
        limit: Train on at most this many images; all by default.
    """

    size: int = 32
    examples: int = 6000
    validation: int = 500
    test: int = 500
    seed: int = 0
    split_seed: int = 0
    limit: int | None = None

    def __post_init__(self) -> None:
        check_arguments(self)
        if self.size < 8:
            raise ValueError(f"size must be at least 8, got {self.size}")
        if self.examples > _ALL:
            raise ValueError(f"examples must be at most {_ALL}, got {self.examples}")

    def load(self) -> Splits:
        draw = torch.Generator().manual_seed(self.seed)
        which = torch.randperm(_ALL, generator=draw)[: self.examples]
        counts = torch.tensor([_SHAPES, _SCALES, _PLACES, _PLACES, _SHADES])
        steps = torch.tensor([_ALL // int(counts[: i + 1].prod()) for i in range(5)])
        factors = which[:, None] // steps % counts
        images = torch.cat([_drawn(few, self.size) for few in torch.split(factors, 512)])
        return divide(
            Examples(images, factors[:, 0], factors),
            levels=256,
            validation=self.validation,
            test=self.test,
            split_seed=self.split_seed,
            limit=self.limit,
        )


def _drawn(factors: Tensor, size: int) -> Tensor:
    """The levels of images with the factors `[n, 5]`."""
    shape, scale, x, y, shade = factors[:, :, None, None].double().unbind(1)
    pixel = torch.arange(size, dtype=torch.float64) + 0.5
    u = (pixel - size * (0.25 + 0.5 * x / (_PLACES - 1))).abs()
    v = (pixel[:, None] - size * (0.25 + 0.5 * y / (_PLACES - 1))).abs()
    r = size * (0.10 + 0.12 * scale / (_SCALES - 1))
    beyond = torch.where(
        shape == 0,
        torch.maximum(u, v) - r,
        torch.where(shape == 1, (u.square() + v.square()).sqrt() - r, (u + v - r) / 2**0.5),
    )
    covered = (0.5 - beyond).clamp(0, 1)
    level = 255 * (0.4 + 0.6 * shade / (_SHADES - 1)) * covered
    return level.round().to(torch.uint8)[:, None]
