"""Your own pictures: any folder of them."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

from tune_vae.data import Dataset, Splits
from tune_vae.data.carving import check_arguments, held_back, shuffled
from tune_vae.data.files import absolute
from tune_vae.data.pictures import FORMATS, Frame, prepared_pictures
from tune_vae.errors import DataError

__all__ = ["ImageFolder"]

_SPLITS = (("train", "training"), ("val", "valid", "validation"), ("test", "testing"))
"""Names of sub-folders that hold a split: training, validation, test."""


@dataclass(frozen=True)
class ImageFolder(Dataset):
    """All pictures in a folder and its sub-folders, however deep.

    Read are .bmp, .gif, .jpg, .png, .ppm, .tif and .webp; other files do not count, nor do names
    that begin with a point. The pictures are decoded once and kept in the cache (see
    `tune_vae.data.prepared`).

    | the folder holds           | then                                                       |
    |----------------------------|------------------------------------------------------------|
    | a sub-folder `train`       | it, `val` and `test` are the splits; those that are absent |
    |                            | are held back from it                                      |
    | anything else              | a shuffle holds back pictures for validation and test      |
    | two or more sub-folders    | a picture's label is the one in which, at whatever depth,  |
    | (in all splits together)   | it is; without any if some are in none                     |

    Arguments:
        root: The folder; a relative one starts at the current folder.
        size: Height and width in pixels to which pictures are resized; None for none.
        crop: Side of the square that is cut out of the middle first; by default the largest, or,
            with `size: null`, none: all pictures must then have one size.
        colour: Three channels; false for one, of grey.
        skip_broken: Leave out pictures that cannot be used (broken, smaller than `crop`, grey
            where colour is asked for, of more than 8 bits), and say how many.
        validation_share, test_share: Of the pictures, each above 0, together below 1.
        split_seed: Seed of the shuffle. Another one decodes the pictures anew.
        limit: Train on at most this many images; all by default. Others are not decoded.
    """

    root: str = "data/images"
    size: int | None = 64
    crop: int | None = None
    colour: bool = True
    skip_broken: bool = False
    validation_share: float = 0.1
    test_share: float = 0.1
    split_seed: int = 0
    limit: int | None = None

    def __post_init__(self) -> None:
        check_arguments(self)

    def load(self) -> Splits:
        folder = absolute(self.root)
        found = sorted(_pictures(folder))
        if not found:
            raise DataError(
                f"no pictures are here: expected some in {folder} or its sub-folders, with names "
                f"that end in {', '.join(FORMATS)}; write `root: …` under `image_folder` in the "
                "study"
            )
        parts = self._parts(found)
        files = [*chain.from_iterable(parts)]
        frame = Frame(crop=self.crop, size=self.size, colour=self.colour)
        return prepared_pictures(
            "image_folder", folder, files, frame, skip_broken=self.skip_broken
        ).splits([len(part) for part in parts], levels=256, labels=_labels(files))

    def _parts(self, found: list[str]) -> list[list[str]]:
        """Pictures for training, validation and test."""
        train, *others = ([one for one in found if _top(one) in names] for names in _SPLITS)
        if not train:
            train, others = found, [[], []]
        elif len(train) + sum(map(len, others)) < len(found):
            beside = min({_top(one) or one for one in found} - set(chain.from_iterable(_SPLITS)))
            raise DataError(
                f"{absolute(self.root)} has a sub-folder `train`, and pictures that are in no "
                f"split: `{beside}`; move them into train, val or test, or name `train` otherwise"
            )
        wanted = held_back(len(train), self.validation_share, self.test_share)
        held = [0 if there else count for there, count in zip(others, wanted, strict=True)]
        index = shuffled(len(train), held, self.split_seed)
        left, *carved = ([train[i] for i in part.tolist()] for part in index)
        return [left[: self.limit], *(a or b for a, b in zip(others, carved, strict=True))]


def _pictures(folder: Path) -> Iterator[str]:
    """Paths below the folder, with slashes."""
    seen = set()
    for place, inner, names in os.walk(folder, followlinks=True):
        # Links may lead in a circle.
        seen.add(os.path.realpath(place))
        inner[:] = [
            name
            for name in inner
            if name[0] != "." and os.path.realpath(os.path.join(place, name)) not in seen
        ]
        below = Path(place).relative_to(folder)
        ahead = "" if below == Path() else f"{below.as_posix()}/"
        for name in names:
            if name[0] != "." and os.path.splitext(name)[1].lower() in FORMATS:
                yield ahead + name


def _top(file: str) -> str:
    """The first sub-folder of a path, or the empty text."""
    first, slash, _ = file.partition("/")
    return first if slash else ""


def _labels(files: list[str]) -> Tensor | None:
    if any(_top(file) in _SPLITS[0] for file in files):
        files = [file.partition("/")[2] for file in files]
    tops = [_top(file) for file in files]
    names = sorted(set(tops))
    if len(names) < 2 or names[0] == "":
        return None
    number = {name: i for i, name in enumerate(names)}
    return torch.tensor([number[top] for top in tops])
