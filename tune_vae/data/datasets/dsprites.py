"""Drawn shapes whose every property is known."""

from dataclasses import dataclass

import numpy as np
import torch

from tune_vae.data import Dataset, Splits
from tune_vae.data.array_files import ArrayFile, array_files
from tune_vae.data.carving import check_arguments, shuffled
from tune_vae.data.files import Source, find, reading, stamp
from tune_vae.data.prepared import prepared
from tune_vae.data.preparing import Recipe, key_of

__all__ = ["Dsprites"]

_NAME = "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"


@dataclass(frozen=True)
class Dsprites(Dataset):
    """737,280 binary images of 64×64 pixels: one white shape on black ground.

    Every combination of five factors is there once: shape (square, ellipse, heart: 3), scale (6),
    orientation (40), horizontal (32) and vertical position (32). The label is the shape. There is
    no official split. All images take 3 GB in the cache, and as much memory once, while they are
    unpacked (see `tune_vae.data.prepared`).

    The file is `dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz`, in `dsprites/` or in `root`
    itself.

    References:
        | dSprites: Disentanglement testing Sprites dataset (Matthey et al., 2017)
        | https://github.com/google-deepmind/dsprites-dataset

    Arguments:
        root: Folder of the file; a relative one starts at the current folder.
        validation: Number of images for validation.
        test: Number of images for testing.
        split_seed: Seed of the shuffle.
        limit: Train on at most this many images; all by default. Others are not kept.
    """

    root: str = "data"
    validation: int = 10_000
    test: int = 10_000
    split_seed: int = 0
    limit: int | None = None

    def __post_init__(self) -> None:
        check_arguments(self)

    def load(self) -> Splits:
        (file,) = find(self.root, [[f"dsprites/{_NAME}", _NAME]], _SOURCE)
        held = array_files(file)
        with reading(file):
            images, classes = held["imgs"], held["latents_classes"]
            _refuse_other_arrays(images, classes)
        train, *others = shuffled(images.shape[0], [self.validation, self.test], self.split_seed)
        parts = [train[: self.limit], *others]
        order = torch.cat(parts)
        recipe = Recipe(
            name="dsprites",
            key=key_of(f"1 {stamp(file)}\n", order),
            shape=(1, 64, 64),
            count=len(order),
            read=lambda at: images.values()[int(order[at])][None],
        )
        # The first factor is the colour, of which there is one.
        factors = torch.from_numpy(classes.values()[:, 1:].astype(np.int64))[order]
        return prepared(recipe).splits(
            [len(part) for part in parts], levels=2, labels=factors[:, 0], factors=factors
        )


def _refuse_other_arrays(images: ArrayFile, classes: ArrayFile) -> None:
    if images.dtype != np.uint8 or images.shape[1:] != (64, 64):
        raise ValueError(f"imgs is {images.dtype} {list(images.shape)}, not uint8 [n, 64, 64]")
    if classes.dtype.kind != "i" or classes.shape != (images.shape[0], 6):
        raise ValueError(
            f"latents_classes is {classes.dtype} {list(classes.shape)}, not six whole numbers for "
            f"each of {images.shape[0]:,} images"
        )


_SOURCE = Source("dSprites", "27 MB", "the project google-deepmind/dsprites-dataset")
