"""Arrays in files of numpy and torch, whose shape is known before their values are read.

Shapes: n examples.
"""

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch

from tune_vae.data.files import reading
from tune_vae.errors import DataError

__all__ = ["ArrayFile", "array_files"]


@dataclass(frozen=True)
class ArrayFile:
    """An array in a file.

    Arguments:
        file: Where it is.
        shape, dtype: Of its values.
        values: Reads them, or maps them where the format allows it; once, however often it is
            called, and by several threads.
    """

    file: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    values: Callable[[], Any]


def array_files(file: Path) -> dict[str, ArrayFile]:
    """The arrays of a file by name; the only one of a file that gives none is called "".

    | name ends in   | what it is                                                         |
    |----------------|--------------------------------------------------------------------|
    | `.npy`, `.npz` | written by `numpy.save`, `numpy.savez`, `numpy.savez_compressed`   |
    | `.pt`, `.pth`  | a tensor, or a dict of tensors, written by `torch.save`            |

    Nothing is unpickled; arrays of objects in a `.npz` are left out.

    Raises:
        DataError: The file is absent, broken or of another kind; `values` raises it as well.
    """
    readers = {".npy": _npy, ".npz": _npz, ".pt": _torch, ".pth": _torch}
    if file.suffix not in readers:
        raise DataError(f"{file} must end in {', '.join(readers)}")
    with reading(file):
        return readers[file.suffix](file)


def _npy(file: Path) -> dict[str, ArrayFile]:
    values = np.load(file, mmap_mode="r", allow_pickle=False)
    return {"": _at_hand(file, values)}


def _npz(file: Path) -> dict[str, ArrayFile]:
    found = {}
    with zipfile.ZipFile(file) as archive:
        for member in archive.namelist():
            name = member.removesuffix(".npy")
            with archive.open(member) as stream:
                version = np.lib.format.read_magic(stream)
                read_header = {
                    (1, 0): np.lib.format.read_array_header_1_0,
                    (2, 0): np.lib.format.read_array_header_2_0,
                }[version]
                shape, _, dtype = read_header(stream)
            if not dtype.hasobject:
                found[name] = ArrayFile(file, shape, dtype, _later(file, name))
    return found


def _later(file: Path, name: str) -> Callable[[], Any]:
    read: list[Any] = []
    one_at_a_time = Lock()

    def values() -> Any:
        with one_at_a_time:
            if not read:
                # Given its name, numpy would leave a torn file open.
                with reading(file), file.open("rb") as stream:
                    read.append(np.load(stream, allow_pickle=False)[name])
            return read[0]

    return values


def _torch(file: Path) -> dict[str, ArrayFile]:
    # Files of torch before 1.6 cannot be mapped.
    held = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    if isinstance(held, torch.Tensor):
        held = {"": held}
    if not isinstance(held, dict):
        raise ValueError(f"it holds a {type(held).__name__}, not a tensor or a dict of tensors")
    arrays = {
        str(name): tensor.detach().numpy()
        for name, tensor in held.items()
        if isinstance(tensor, torch.Tensor)
    }
    return {name: _at_hand(file, values) for name, values in arrays.items()}


def _at_hand(file: Path, values: Any) -> ArrayFile:
    return ArrayFile(file, values.shape, values.dtype, lambda: values)
