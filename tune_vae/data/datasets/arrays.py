"""Your own images as an array of numpy or torch."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from tune_vae.data import Dataset, Splits
from tune_vae.data.array_files import ArrayFile, array_files
from tune_vae.data.carving import check_arguments, held_back, shuffled
from tune_vae.data.classes import numbered, read_classes
from tune_vae.data.files import absolute, stamp
from tune_vae.data.prepared import prepared
from tune_vae.data.preparing import Recipe, key_of
from tune_vae.errors import DataError

__all__ = ["Arrays"]

Layout = Literal["auto", "NHW", "NHWC", "NCHW"]


@dataclass(frozen=True)
class Arrays(Dataset):
    r"""Images in a `.npy`, `.npz` or `.pt` file, with or without labels.

    | values of the array | level                                                        |
    |---------------------|--------------------------------------------------------------|
    | whole numbers, bool | as they are, from 0 to L - 1                                 |
    | real numbers x      | round((L - 1) · x); they must be in [0, 1]                   |

    They are brought into order once and kept in the cache (see `tune_vae.data.prepared`); a
    `.npz` has to fit into memory for it, the others not.

    Arguments:
        path: The file; a relative one starts at the current folder.
        images: Name of the array in a `.npz` or a dict of tensors; by default the only one with
            three or four axes.
        labels: Name of another array there with one class for each image, or a file: a `.npy`,
            or text with one label a line.
        layout: Meaning of the axes. By default three axes are NHW; of four, the one with 1 or 3
            entries is C, and it has to be said when that could be either.
        levels: L, from 2 to 256; 2 for binary images, and always for bool.
        validation_share, test_share: Of the images, each above 0, together below 1.
        split_seed: Seed of the shuffle before the split.
        limit: Train on at most this many images; all by default.
    """

    path: str = "data/images.npy"
    images: str | None = None
    labels: str | None = None
    layout: Layout = "auto"
    levels: int = 256
    validation_share: float = 0.1
    test_share: float = 0.1
    split_seed: int = 0
    limit: int | None = None

    def __post_init__(self) -> None:
        check_arguments(self)
        if not 2 <= self.levels <= 256:
            raise ValueError(f"levels must be from 2 to 256, got {self.levels}")

    def load(self) -> Splits:
        file = absolute(self.path)
        if not file.is_file():
            raise DataError(
                f"the images are expected at {file}: write `path: …` under `arrays` in the study, "
                "with a .npy, .npz or .pt"
            )
        held = array_files(file)
        images = self._images(held)
        count = images.shape[0]
        labels = self._classes(held, count)
        held_out = held_back(count, self.validation_share, self.test_share)
        train, *others = shuffled(count, held_out, self.split_seed)
        parts = [train[: self.limit], *others]
        order = torch.cat(parts)
        # Stands for the images without reading them.
        empty = np.broadcast_to(np.empty((), images.dtype), images.shape)
        levels = 2 if images.dtype == np.bool_ else self.levels
        shape = self._channels_first(empty).shape[1:]
        recipe = Recipe(
            name="arrays",
            key=key_of(f"1 {stamp(file)} {self.images} {self.layout} {levels}\n", order),
            shape=shape,
            count=len(order),
            read=lambda at: self._level(images, int(order[at]), levels),
        )
        return prepared(recipe).splits(
            [len(part) for part in parts],
            levels=levels,
            labels=None if labels is None else labels[order],
        )

    def _images(self, held: dict[str, ArrayFile]) -> ArrayFile:
        file = self.path
        if self.images is not None:
            if self.images not in held:
                raise DataError(f"{file} has no array `{self.images}`; it has: {_listed(held)}")
            found = held[self.images]
        else:
            fitting = [one for one in held.values() if len(one.shape) in (3, 4)]
            if len(fitting) != 1:
                raise DataError(
                    f"{file} must hold one array of three or four axes, it holds {_listed(held)}; "
                    "name the one of the images as `images`"
                )
            (found,) = fitting
        if found.dtype.kind not in "bfiu":
            raise DataError(f"{file} holds {found.dtype}, not numbers")
        return found

    def _channels_first(self, images: Any) -> Any:
        """`[n, …]` in the layout of the file to `[n, C, H, W]`."""
        channels = [axis for axis in (1, 3) if images.ndim == 4 and images.shape[axis] in (1, 3)]
        layout = self.layout
        if layout == "auto" and images.ndim == 3:
            layout = "NHW"
        elif layout == "auto" and len(channels) == 1:
            layout = "NCHW" if channels == [1] else "NHWC"
        if layout == "auto" or len(layout) != images.ndim:
            raise DataError(
                f"{self.path} holds images of the axes {list(images.shape)}; say what they mean "
                "with `layout: NHW`, NHWC or NCHW"
            )
        if layout == "NHW":
            return images[:, None]
        return images.transpose(0, 3, 1, 2) if layout == "NHWC" else images

    def _level(self, images: ArrayFile, index: int, levels: int) -> Any:
        values = self._channels_first(images.values()[index : index + 1])[0]
        real = values.dtype.kind == "f"
        top = 1 if real else levels - 1
        # So written, NaN is refused as well.
        if not ((values >= 0) & (values <= top)).all():
            wrong = values[~((values >= 0) & (values <= top))][0]
            raise DataError(
                f"{self.path} holds {wrong:g} in image {index}, but "
                + (
                    "real numbers must be from 0 to 1: divide them by the largest possible value"
                    if real
                    else f"whole numbers must be from 0 to {top}, one less than `levels`"
                )
            )
        return (np.rint((levels - 1) * values.astype(np.float64)) if real else values).astype(
            np.uint8
        )

    def _classes(self, held: dict[str, ArrayFile], count: int) -> Tensor | None:
        if self.labels is None:
            return None
        if self.labels in held:
            found = held[self.labels]
            return numbered(found.values(), count, found.file)
        beside = f", or as one of the arrays in {self.path}: {_listed(held)}"
        return read_classes(absolute(self.labels), count, beside=beside)


def _listed(held: dict[str, ArrayFile]) -> str:
    if not held:
        return "no arrays"
    return ", ".join(f"`{name}` {list(one.shape)}" for name, one in held.items())
