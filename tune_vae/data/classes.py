"""Names of classes as numbers.

Shapes: n examples.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tune_vae.data.files import reading
from tune_vae.errors import DataError

__all__ = ["numbered", "read_classes"]


def read_classes(file: Path, count: int, *, beside: str = "") -> Tensor:
    """The classes in a file with one label for each example; see `numbered`.

    Arguments:
        file: Text with one label a line, or a `.npy` of texts or whole numbers.
        count: How many there must be.
        beside: Where else they are looked for, for the message.

    Raises:
        DataError: The file is absent or broken, or does not fit.
    """
    if not file.is_file():
        raise DataError(
            f"the labels are expected at {file}, one for each of {count:,} examples{beside}"
        )
    with reading(file):
        if file.suffix == ".npy":
            with file.open("rb") as stream:
                names = np.lib.format.read_array(stream, allow_pickle=False)
        else:
            names = np.array(file.read_text(encoding="utf-8-sig").splitlines(), dtype=str)
    return numbered(names, count, file)


def numbered(names: Any, count: int, file: Path) -> Tensor:
    """The class of each example, `[n]`, int64, in the order of their sorted names.

    Arguments:
        names: Texts or whole numbers, `[n]` or `[n, 1]`.
        count: n.
        file: Where they are from, for the message.

    Raises:
        DataError: They are not as many, or of another kind.
    """
    if names.shape not in ((count,), (count, 1)) or names.dtype.kind not in "biuUS":
        raise DataError(
            f"{file} holds {names.dtype} {list(names.shape)}, not one label for each of "
            f"{count:,} examples"
        )
    return torch.from_numpy(np.unique(names.ravel(), return_inverse=True)[1].astype(np.int64))
