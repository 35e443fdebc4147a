"""The idx format of MNIST and of the data sets that follow it: a short header, then bytes."""

import gzip
import math
import struct
from pathlib import Path

import torch
from torch import Tensor

from tune_vae.data.carving import Examples
from tune_vae.data.files import Source, find, reading

__all__ = ["read_idx", "read_mnist_files"]

_UNSIGNED_BYTES = b"\x00\x00\x08"


def read_idx(file: Path) -> Tensor:
    """The uint8 tensor of a file, packed by gzip if it ends in `.gz`.

    Layout: two zero bytes, 8 for unsigned bytes, the number of axes, the length of each as a
    big-endian uint32, then the values with the last axis fastest.

    Raises:
        DataError: The file is not whole, or holds something else.
    """
    with reading(file), gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
        content = bytearray(stream.read())
        if len(content) < 8 or content[:3] != _UNSIGNED_BYTES:
            raise ValueError("it does not begin like an idx file of bytes")
        header = 4 + 4 * content[3]
        shape = struct.unpack(f">{content[3]}I", content[4:header])
        if len(content) != header + math.prod(shape):
            raise ValueError(
                f"it states {'×'.join(map(str, shape))} values, but holds "
                f"{len(content) - header:,}"
            )
        return torch.frombuffer(content, dtype=torch.uint8, offset=header).view(shape)


def read_mnist_files(
    root: str, folder: str, source: Source, *, download: bool
) -> tuple[Examples, Examples]:
    """Training and test examples of a data set in the four files of MNIST.

    Arguments:
        root: Where the files are, packed or not, themselves or in torchvision's folder.
        folder: Name of torchvision's folder, such as `FashionMNIST`.
        source, download: See `find`.

    Raises:
        DataError: A file is absent or broken.
    """
    names = [
        f"{part}-{what}-ubyte"
        for part in ("train", "t10k")
        for what in ("images-idx3", "labels-idx1")
    ]
    places = [
        [f"{place}{name}{end}" for place in (f"{folder}/raw/", "") for end in (".gz", "")]
        for name in names
    ]
    train_images, train_labels, test_images, test_labels = find(
        root, places, source, download=download
    )
    return _examples(train_images, train_labels), _examples(test_images, test_labels)


def _examples(images_file: Path, labels_file: Path) -> Examples:
    images, labels = read_idx(images_file), read_idx(labels_file)
    with reading(images_file):
        if images.shape[1:] != (28, 28):
            raise ValueError(f"it holds values of the shape {list(images.shape)}, not [n, 28, 28]")
    with reading(labels_file):
        if labels.ndim != 1:
            raise ValueError(f"it holds labels of the shape {list(labels.shape)}, not [n]")
        return Examples(images[:, None], labels.long())
