"""Faces of celebrities, aligned by their eyes."""

import os
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

from tune_vae.data import Dataset, Splits
from tune_vae.data.carving import check_arguments
from tune_vae.data.files import Source, find, reading
from tune_vae.data.pictures import Frame, prepared_pictures
from tune_vae.errors import DataError

__all__ = ["Celeba"]

_HEIGHT, _WIDTH = 218, 178


@dataclass(frozen=True)
class Celeba(Dataset):
    """202,599 colour photographs of 10,177 faces, aligned and cropped, 178 pixels wide, 218 high.

    The split is the official one by persons: 162,770 for training, 19,867 for validation, 19,962
    for testing. A square is cut out of the middle of each and resized; at 64 × 64 all of them take
    2.5 GB in the cache (see `tune_vae.data.prepared`).

    Expected are the folder `img_align_celeba` and the lists `list_eval_partition.txt` and, for
    labels, `list_attr_celeba.txt`, in `celeba/`, where torchvision keeps them too, or in `root`
    itself. Lists that end in `.csv`, as others hand them on, do as well.

    References:
        | Deep Learning Face Attributes in the Wild (Liu et al., 2015)
        | https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html

    Arguments:
        root: Folder of the files; a relative one starts at the current folder.
        size: Height and width in pixels; None for those of the square.
        crop: Side of the square, up to 178; 148 and 140 are common. None for 178.
        attribute: One of the 40, such as `Smiling`: the label is 1 where it applies, else 0. By
            default there are no labels.
        skip_broken: Leave out pictures that cannot be used, and say how many.
        download: Whether to get absent files (1.4 GB, from Google Drive by the package `gdown`,
            which is often refused because too many people ask).
        limit: Train on at most this many images; all by default. Others are not decoded.
    """

    root: str = "data"
    size: int | None = 64
    crop: int | None = 148
    attribute: str | None = None
    skip_broken: bool = False
    download: bool = False
    limit: int | None = None

    def __post_init__(self) -> None:
        check_arguments(self)
        if self.crop and self.crop > _WIDTH:
            raise ValueError(f"crop must be at most {_WIDTH}, got {self.crop}")

    def load(self) -> Splits:
        wanted = [_places("list_eval_partition.txt"), [p + _FIRST for p in _FOLDERS]]
        if self.attribute:
            wanted.append(_places("list_attr_celeba.txt"))
        found = find(self.root, wanted, _SOURCE, download=self.download)
        partition, folder = _rows(found[0]), found[1].parent
        _refuse_other_pictures(partition, found[0], folder)
        parts: list[list[str]] = [[], [], []]
        with reading(found[0]):
            for name, (part,) in partition.items():
                parts[("0", "1", "2").index(part)].append(name)
        parts[0] = parts[0][: self.limit]
        names = [*chain.from_iterable(parts)]
        frame = Frame(
            crop=self.crop or _WIDTH,
            size=self.size,
            only=(_HEIGHT, _WIDTH),
        )
        return prepared_pictures(
            "celeba", folder, names, frame, skip_broken=self.skip_broken
        ).splits(
            [len(part) for part in parts],
            levels=256,
            labels=_labels(found[2], self.attribute, names) if self.attribute else None,
        )


def _words(line: str) -> list[str]:
    return line.replace(",", " ").split()


def _rows(file: Path) -> dict[str, list[str]]:
    """What a list says of each picture, by the picture's name."""
    with reading(file):
        lines = [words for line in file.read_text().splitlines() if (words := _words(line))]
        rows = {name: rest for name, *rest in lines if name.endswith(".jpg")}
        width = max(map(len, rows.values()), default=0)
        strange = [rest for rest in rows.values() if len(rest) != width]
        # Before the pictures come their number and the headings, or one of them, or neither.
        ahead = [i for i, (name, *_) in enumerate(lines) if not name.endswith(".jpg")]
        if not rows or not width or strange or ahead not in ([], [0], [0, 1]):
            raise ValueError("it is no list of pictures, one a line")
        return rows


def _labels(file: Path, attribute: str, names: list[str]) -> Tensor:
    rows = _rows(file)
    with reading(file):
        lines = file.read_text().splitlines()
        if lines[0].strip().isdigit():
            stated = int(lines.pop(0))
            if stated != len(rows):
                raise ValueError(f"it states {stated:,} pictures, but lists {len(rows):,}")
        headings = [name for name in _words(lines[0]) if name != "image_id"]
        if attribute not in headings:
            raise DataError(
                f"{file} has no attribute `{attribute}`; it has: {', '.join(headings)}"
            )
        column = headings.index(attribute)
        return torch.tensor([int(int(rows[name][column]) > 0) for name in names])


def _refuse_other_pictures(partition: dict[str, list[str]], file: Path, folder: Path) -> None:
    """A list that lost its end would look like a smaller data set."""
    others = {name for name in os.listdir(folder) if name.endswith(".jpg")} - partition.keys()
    if others:
        raise DataError(
            f"{file} is cut off, or belongs to other pictures: it does not list {min(others)} and "
            f"{len(others) - 1:,} more that are in {folder}; get it anew"
        )


_FOLDERS = ("celeba/", "")
_FIRST = "img_align_celeba/000001.jpg"


def _places(name: str) -> list[str]:
    return [
        f"{folder}{one}" for one in (name, name.replace(".txt", ".csv")) for folder in _FOLDERS
    ]


def _fetch(folder: str) -> None:
    from torchvision.datasets import CelebA
    from torchvision.datasets.utils import download_file_from_google_drive, extract_archive

    place = Path(folder, "celeba")
    # The lists first: the drive refuses often, and sooner or later.
    wanted = ("list_eval_partition.txt", "list_attr_celeba.txt", "img_align_celeba.zip")
    sources = {name: (drive_id, md5) for drive_id, md5, name in CelebA.file_list}
    for name in wanted:
        try:
            download_file_from_google_drive(sources[name][0], place, name, sources[name][1])
        except Exception as error:
            # Of the package gdown, whose errors have no class in common.
            raise RuntimeError(str(error)) from error
    extract_archive(place / "img_align_celeba.zip", remove_finished=True)


_SOURCE = Source(
    "CelebA",
    "1.4 GB",
    "the CelebA page of The Chinese University of Hong Kong (Align&Cropped Images, Eval, Anno)",
    _fetch,
)
