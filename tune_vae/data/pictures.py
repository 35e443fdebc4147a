"""Picture files: what of them is wanted, and how they become bytes.

Shapes: C H W image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tune_vae.data.files import reading, stamp
from tune_vae.data.prepared import Prepared, prepared
from tune_vae.data.preparing import Recipe, key_of
from tune_vae.errors import DataError

__all__ = ["FORMATS", "Frame", "decoded", "prepared_pictures"]

FORMATS = {
    ".bmp": "BMP",
    ".gif": "GIF",
    ".jpeg": "JPEG",
    ".jpg": "JPEG",
    ".pgm": "PPM",
    ".png": "PNG",
    ".ppm": "PPM",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
}
"""Pillow's names of the formats we read, by how a file's name may end."""

_VERSION = 1
"""Of what `decoded` makes of a file; raise it when that changes."""


@dataclass(frozen=True)
class Frame:
    """What of a picture is wanted.

    Arguments:
        crop: Side in pixels of the square cut out of the middle; by default the largest, or,
            without a `size` either, the whole picture.
        size: Height and width to which that is resized; None for none.
        colour: Three channels, or the grey of all.
        only: Height and width that a picture must have; None for any.
    """

    crop: int | None = None
    size: int | None = None
    colour: bool = True
    only: tuple[int, int] | None = None


def decoded(file: Path, frame: Frame) -> Any:
    """The levels of a picture, uint8 `[C, H, W]`.

    A photograph is turned as its camera says. Of an animation it is the first picture;
    transparency is left out. Resizing is that of `resizing.resized`.

    Raises:
        DataError: The file is absent or broken, has another size, is too small to be cropped,
            has more than 8 bits a channel, or is grey where colour is asked for.
    """
    from PIL import Image, ImageOps

    with reading(file), Image.open(file, formats=[*set(FORMATS.values())]) as opened:
        _refuse_kind(file, opened.mode, frame)
        ImageOps.exif_transpose(opened, in_place=True)
        picture = opened.convert("RGB" if frame.colour else "L")
        width, height = picture.size
        if frame.only not in (None, (height, width)):
            raise DataError(f"{file} is {_size(height, width)}, not {_size(*frame.only)}")
        if frame.crop or frame.size:
            crop = frame.crop or min(height, width)
            if crop > min(height, width):
                raise DataError(f"{file} is {_size(height, width)}, too small for `crop: {crop}`")
            # As torchvision's CenterCrop rounds.
            left, top = round((width - crop) / 2), round((height - crop) / 2)
            size = frame.size or crop
            picture = picture.crop((left, top, left + crop, top + crop))
            # Does nothing when it has this size.
            picture = picture.resize((size, size), Image.Resampling.BILINEAR)
        levels = np.asarray(picture)
        return levels.transpose(2, 0, 1) if frame.colour else levels[None]


def prepared_pictures(
    name: str, folder: Path, files: Sequence[str], frame: Frame, *, skip_broken: bool
) -> Prepared:
    """The pictures of a folder in the order given, decoded once; see `prepared`.

    They are decoded again when one of them has another name, size or time of change. Their
    contents are not compared, because reading 200,000 files at every start takes a hundred times
    as long as asking for their sizes. Nor does the place of the folder count: it may move.

    Arguments:
        name: Of the data set.
        folder: Where they are.
        files: Their paths below it; at least one.
        frame: What of them is wanted.
        skip_broken: See `prepared`.

    Raises:
        DataError: See `decoded` and `prepared`.
    """
    shape = _shape(folder, files, frame)
    # A hundred thousand paths as texts, because as `Path` they would take a second.
    stamps = (f"{file} {stamp(f'{folder}/{file}')}\n" for file in files)
    of_one_size = frame if frame.size or frame.crop else Frame(colour=frame.colour, only=shape[1:])
    recipe = Recipe(
        name=name,
        key=key_of(f"{_VERSION} {frame} {shape}\n", *stamps),
        shape=shape,
        count=len(files),
        read=lambda position: decoded(folder / files[position], of_one_size),
    )
    return prepared(recipe, skip_broken=skip_broken)


def _shape(folder: Path, files: Sequence[str], frame: Frame) -> tuple[int, int, int]:
    """That of all examples: without crop and size, that of the first good picture."""
    channels = 3 if frame.colour else 1
    side = frame.size or frame.crop
    if side:
        return channels, side, side
    if frame.only:
        return channels, *frame.only
    first = None
    for file in files:
        try:
            _, height, width = decoded(folder / file, frame).shape
            return channels, height, width
        except DataError as error:
            first = first or error
    assert first is not None
    raise first


def _refuse_kind(file: Path, mode: str, frame: Frame) -> None:
    if mode.startswith(("I", "F")):
        raise DataError(
            f"{file} has more than 8 bits a channel (Pillow's mode {mode}); save it with 8"
        )
    if frame.colour and mode in ("1", "L", "LA"):
        raise DataError(f"{file} is grey, where colour is asked for")


def _size(height: int, width: int) -> str:
    return f"{height} pixels high and {width} wide"
