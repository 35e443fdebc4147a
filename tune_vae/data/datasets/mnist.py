"""Handwritten digits, grey or binarised."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tune_vae.data import Dataset, Splits
from tune_vae.data.carving import Examples, carve, check_arguments
from tune_vae.data.files import Source
from tune_vae.data.idx import read_mnist_files

__all__ = ["Mnist"]


@dataclass(frozen=True)
class Mnist(Dataset):
    r"""70,000 handwritten digits of 28×28 pixels, 10,000 of them for testing.

    A grey value g of 0 … 255 stays, or becomes one of two levels:

    | `binarised`  | value                                                       |
    |--------------|-------------------------------------------------------------|
    | `none`       | g, of 256 levels                                            |
    | `static`     | 1 if g / 255 > 0.5, that is from 128, else 0                |
    | `stochastic` | 1 with probability g / 255, drawn once by `draw_seed`       |

    The `stochastic` draw is made in the way of Salakhutdinov & Murray (2008), but is not their
    draw: figures on "static MNIST" of the literature compare only roughly.

    The four files are expected as torchvision keeps them, in `MNIST/raw/`, or in `root` itself;
    packed or not. The split 50,000 + 10,000 + 10,000 is the custom for binarised digits.

    References:
        | Gradient-Based Learning Applied to Document Recognition (LeCun et al., 1998)
        | On the Quantitative Analysis of Deep Belief Networks (Salakhutdinov & Murray, 2008)

    Arguments:
        root: Folder of the files; a relative one starts at the current folder.
        binarised: See the table.
        draw_seed: Seed of the `stochastic` draw, from 0; an image's draw does not depend on the
            split.
        download: Whether to get absent files (12 MB).
        validation: Number of the official training images held back for validation.
        split_seed: Seed of which ones.
        limit: Train on at most this many images; all by default.
    """

    root: str = "data"
    binarised: Literal["none", "static", "stochastic"] = "none"
    draw_seed: int = 0
    download: bool = False
    validation: int = 10_000
    split_seed: int = 0
    limit: int | None = None

    def __post_init__(self) -> None:
        check_arguments(self)

    def load(self) -> Splits:
        train, test = read_mnist_files(self.root, "MNIST", _SOURCE, download=self.download)
        draw = torch.Generator().manual_seed(self.draw_seed)
        return carve(
            Examples(self._binary(train.images, draw), train.labels),
            Examples(self._binary(test.images, draw), test.labels),
            levels=256 if self.binarised == "none" else 2,
            validation=self.validation,
            split_seed=self.split_seed,
            limit=self.limit,
        )

    def _binary(self, grey: Tensor, draw: torch.Generator) -> Tensor:
        if self.binarised == "static":
            return (grey >= 128).to(torch.uint8)
        if self.binarised == "stochastic":
            # A whole number below 255 is below g with the probability g / 255, exactly.
            below = torch.randint(255, grey.shape, generator=draw, dtype=torch.uint8)
            return (below < grey).to(torch.uint8)
        return grey


def _fetch(folder: str) -> None:
    from torchvision.datasets import MNIST

    MNIST(folder, download=True)


_SOURCE = Source(
    "MNIST", "12 MB", "the MNIST database of handwritten digits of LeCun et al.", _fetch
)
