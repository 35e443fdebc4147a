"""Handwritten characters of fifty alphabets."""

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from torch import Tensor

from tune_vae.data import Dataset, Splits
from tune_vae.data.carving import Examples, carve, check_arguments
from tune_vae.data.files import Source, find, reading
from tune_vae.data.resizing import resized

__all__ = ["Omniglot"]


@dataclass(frozen=True)
class Omniglot(Dataset):
    """32,460 drawings of 1,623 characters by 20 people, ink bright on a dark ground.

    The 19,280 drawings of the 30 "background" alphabets are for training, the 13,180 of the 20
    "evaluation" alphabets for testing: the test has characters that the training has not, and
    labels of its own. Smaller images have grey values from the averaging.

    The two archives `images_background.zip` and `images_evaluation.zip` are expected in
    `omniglot-py/`, where torchvision keeps them too, or in `root` itself. They are read as they
    are, in a few seconds.

    References:
        | Human-Level Concept Learning through Probabilistic Program Induction (Lake et al., 2015)
        | https://github.com/brendenlake/omniglot

    Arguments:
        root: Folder of the files; a relative one starts at the current folder.
        size: Height and width in pixels; None for the original 105 × 105 of two levels.
        download: Whether to get absent files (16 MB).
        validation: Number of the background drawings held back for validation.
        split_seed: Seed of which ones.
        limit: Train on at most this many images; all by default.
    """

    root: str = "data"
    size: int | None = 28
    download: bool = False
    validation: int = 1280
    split_seed: int = 0
    limit: int | None = None

    def __post_init__(self) -> None:
        check_arguments(self)

    def load(self) -> Splits:
        wanted = [[f"omniglot-py/{name}.zip", f"{name}.zip"] for name in _ARCHIVES]
        background, evaluation = find(self.root, wanted, _SOURCE, download=self.download)
        train, classes = self._read(background, 0)
        test, _ = self._read(evaluation, classes)
        return carve(
            train,
            test,
            levels=256 if self.size else 2,
            validation=self.validation,
            split_seed=self.split_seed,
            limit=self.limit,
        )

    def _read(self, file: Path, first: int) -> tuple[Examples, int]:
        """The drawings of an archive, labelled from `first` on, and the label after the last."""
        with reading(file), zipfile.ZipFile(file) as archive:
            names = sorted(
                name
                for name in archive.namelist()
                if name.endswith(".png") and not name.startswith("__MACOSX")
            )
            drawings = torch.stack([_decoded(archive.read(name)) for name in names])
            if drawings.shape[1:] != (1, 105, 105):
                raise ValueError(f"its drawings are {list(drawings.shape[1:])}, not [1, 105, 105]")
            # Ink is black on white there.
            ink = resized(255 - drawings, self.size) if self.size else (drawings == 0).byte()
            characters = [PurePosixPath(name).parent for name in names]
            number = {one: first + i for i, one in enumerate(sorted(set(characters)))}
            labels = torch.tensor([number[one] for one in characters])
            return Examples(ink, labels), first + len(number)


def _decoded(png: bytes) -> Tensor:
    """Grey values `[1, H, W]`."""
    from PIL import Image

    with Image.open(io.BytesIO(png), formats=["PNG"]) as picture:
        return torch.from_numpy(np.array(picture.convert("L")))[None]


_ARCHIVES = ("images_background", "images_evaluation")


def _fetch(folder: str) -> None:
    from torchvision.datasets import Omniglot as Official
    from torchvision.datasets.utils import download_url

    # Only the archives: torchvision would also unpack them into 32,460 files.
    for name in _ARCHIVES:
        url = f"{Official.download_url_prefix}/{name}.zip"
        download_url(url, f"{folder}/omniglot-py", md5=Official.zips_md5[name])


_SOURCE = Source("Omniglot", "16 MB", "the project brendenlake/omniglot, folder python", _fetch)
