"""Handwritten digits that come with scikit-learn."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from tune_vae.data import Dataset, Splits
from tune_vae.errors import DataError

__all__ = ["Digits"]


@dataclass(frozen=True)
class Digits(Dataset):
    """1,797 real handwritten digits of 8×8 pixels with 17 grey levels; nothing is downloaded.

    Split by a fixed shuffle into 1,297 training, 250 validation and 250 test images.

    References:
        | Optical Recognition of Handwritten Digits (Alpaydin & Kaynak, 1998)
        | https://archive.ics.uci.edu/dataset/80

    Arguments:
        split_seed: Seed of the shuffle.
    """

    split_seed: int = 0

    def load(self) -> Splits:
        table = torch.from_numpy(np.loadtxt(_file(), delimiter=",", dtype=np.uint8))
        images = table[:, :64].reshape(-1, 1, 8, 8)
        order = torch.randperm(
            len(images), generator=torch.Generator().manual_seed(self.split_seed)
        )
        images = images[order]
        return Splits(
            train=images[:1297], validation=images[1297:1547], test=images[1547:], levels=17
        )


def _file() -> Path:
    """Where scikit-learn keeps the digits. Importing it to ask would take two seconds."""
    package = find_spec("sklearn")
    folders = package.submodule_search_locations if package else None
    file = Path((folders or ["sklearn"])[0]) / "datasets" / "data" / "digits.csv.gz"
    if not file.exists():
        raise DataError(
            f"the digits are expected at {file}, where scikit-learn keeps them (58 kB); "
            "install it again: pip install --force-reinstall scikit-learn"
        )
    return file
