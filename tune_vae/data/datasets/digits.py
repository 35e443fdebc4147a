"""Handwritten digits that come with scikit-learn."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from tune_vae.data import Dataset, Splits
from tune_vae.data.carving import Examples, check_arguments, divide
from tune_vae.data.files import reading
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
        limit: Train on at most this many images; all by default.
    """

    split_seed: int = 0
    limit: int | None = None

    def __post_init__(self) -> None:
        check_arguments(self)

    def load(self) -> Splits:
        file = _file()
        with reading(file):
            table = torch.from_numpy(np.loadtxt(file, delimiter=",", dtype=np.uint8, ndmin=2))
            if table.shape != (1797, 65):
                raise ValueError(f"it holds {list(table.shape)} numbers, not [1797, 65]")
        return divide(
            Examples(table[:, :64].reshape(-1, 1, 8, 8), table[:, 64].long()),
            levels=17,
            validation=250,
            test=250,
            split_seed=self.split_seed,
            limit=self.limit,
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
