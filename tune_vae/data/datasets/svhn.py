"""House numbers photographed from the street."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from tune_vae.data import Dataset, Splits
from tune_vae.data.carving import Examples, carve, check_arguments
from tune_vae.data.files import Source, find, reading
from tune_vae.data.resizing import resized

__all__ = ["Svhn"]


@dataclass(frozen=True)
class Svhn(Dataset):
    """99,289 colour photographs of digits, 32×32 pixels, 26,032 of them for testing.

    These are the cropped digits ("format 2") without the 531,131 easier extra ones. The files
    are `train_32x32.mat` and `test_32x32.mat`, where torchvision keeps them too. The digit 0,
    which they call 10, has the label 0.

    References:
        | Reading Digits in Natural Images with Unsupervised Feature Learning (Netzer et al., 2011)
        | http://ufldl.stanford.edu/housenumbers

    Arguments:
        root: Folder of the files; a relative one starts at the current folder.
        size: Resize to so many pixels in height and width; 32 × 32 by default.
        download: Whether to get absent files (246 MB).
        validation: Number of the official training images held back for validation.
        split_seed: Seed of which ones.
        limit: Train on at most this many images; all by default.
    """

    root: str = "data"
    size: int | None = None
    download: bool = False
    validation: int = 5000
    split_seed: int = 0
    limit: int | None = None

    def __post_init__(self) -> None:
        check_arguments(self)

    def load(self) -> Splits:
        wanted = [["train_32x32.mat"], ["test_32x32.mat"]]
        train, test = map(self._read, find(self.root, wanted, _SOURCE, download=self.download))
        return carve(
            train,
            test,
            levels=256,
            validation=self.validation,
            split_seed=self.split_seed,
            limit=self.limit,
        )

    def _read(self, file: Path) -> Examples:
        from scipy.io import loadmat

        with reading(file):
            held = loadmat(file, variable_names=["X", "y"])
            images, labels = held["X"], held["y"]
            if images.dtype != np.uint8 or images.ndim != 4 or images.shape[:3] != (32, 32, 3):
                raise ValueError(
                    f"X holds {images.dtype} {list(images.shape)}, not uint8 [32, 32, 3, n]"
                )
            # The last axis counts the images; ours come first, with the colour before the place.
            images = torch.from_numpy(images.transpose(3, 2, 0, 1).copy())
            labels = torch.from_numpy(labels.astype(np.int64).flatten()) % 10
            return Examples(resized(images, self.size), labels)


def _fetch(folder: str) -> None:
    from torchvision.datasets import SVHN

    for split in ("train", "test"):
        SVHN(folder, split=split, download=True)


_SOURCE = Source(
    "SVHN", "246 MB", "The Street View House Numbers Dataset of Stanford University", _fetch
)
