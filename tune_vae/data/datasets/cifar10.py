"""Small colour photographs of animals and vehicles."""

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from tune_vae.data import Dataset, Splits
from tune_vae.data.carving import Examples, carve, check_arguments
from tune_vae.data.files import Source, find, reading
from tune_vae.data.resizing import resized

__all__ = ["Cifar10"]


@dataclass(frozen=True)
class Cifar10(Dataset):
    """60,000 colour photographs of 32×32 pixels in 10 classes, 10,000 of them for testing.

    The six batches of the Python version are expected in `cifar-10-batches-py/`, where
    torchvision keeps them too. They are pickled; we read them with an unpickler that builds
    numpy arrays and nothing else, so a foreign file under these names can run no code.

    References:
        | Learning Multiple Layers of Features from Tiny Images (Krizhevsky, 2009)
        | https://www.cs.toronto.edu/~kriz/cifar.html

    Arguments:
        root: Folder that holds `cifar-10-batches-py`; a relative one starts at the current
            folder.
        size: Resize to so many pixels in height and width; 32 × 32 by default.
        download: Whether to get absent files (170 MB, 360 MB with the unpacked batches).
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
        names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
        wanted = [[f"cifar-10-batches-py/{name}"] for name in names]
        *batches, test = map(_read, find(self.root, wanted, _SOURCE, download=self.download))
        return carve(
            self._examples(batches),
            self._examples([test]),
            levels=256,
            validation=self.validation,
            split_seed=self.split_seed,
            limit=self.limit,
        )

    def _examples(self, batches: list[Examples]) -> Examples:
        images = torch.cat([batch.images for batch in batches])
        labels = torch.cat([batch.labels for batch in batches if batch.labels is not None])
        return Examples(resized(images, self.size), labels)


def _read(file: Path) -> Examples:
    with reading(file), file.open("rb") as stream:
        held = _ArrayUnpickler(stream, encoding="latin1").load()
        values = held["data"]
        if values.dtype != np.uint8 or values.ndim != 2 or values.shape[1] != 3 * 32 * 32:
            raise ValueError(f"it holds {values.dtype} {list(values.shape)}, not uint8 [n, 3072]")
        images = torch.from_numpy(values.reshape(-1, 3, 32, 32).copy())
        return Examples(images, torch.tensor(held["labels"], dtype=torch.int64))


class _ArrayUnpickler(pickle.Unpickler):
    """Builds dicts, lists, numbers, text and numpy arrays."""

    _ALLOWED: ClassVar[dict[tuple[str, str], Callable[..., Any]]] = {
        ("numpy.core.multiarray", "_reconstruct"): lambda *_: np.ndarray(0, np.uint8),
        ("numpy", "ndarray"): np.ndarray,
        # Python 2 wrote 0 and 1 for the two flags, which numpy 2.4 wants as booleans.
        ("numpy", "dtype"): lambda code, *flags: np.dtype(code, *map(bool, flags)),
    }

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        try:
            return self._ALLOWED[module, name]
        except KeyError:
            raise ValueError(
                f"it asks for {module}.{name}, as no batch of CIFAR-10 does"
            ) from None


def _fetch(folder: str) -> None:
    from torchvision.datasets import CIFAR10

    CIFAR10(folder, download=True)


_SOURCE = Source(
    "CIFAR-10",
    "170 MB",
    "the CIFAR-10 page of the University of Toronto (CIFAR-10 python version)",
    _fetch,
)
