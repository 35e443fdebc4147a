"""Photographs to measure with: JPEGs of 178×218 pixels, as CelebA has them."""

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tests.unit.data.datasets.samples import smooth

__all__ = ["CROP", "SIZE", "written"]

CROP, SIZE = 148, 64
"""As `studies/celeba.yaml` cuts and resizes them."""

_PARTS = 16


def written(folder: Path, count: int) -> Path:
    """So many of them, each another one, in a new folder, by all cores."""
    folder.mkdir()
    with ProcessPoolExecutor() as pool:
        parts = [range(part, count, _PARTS) for part in range(_PARTS)]
        list(pool.map(_write, [folder] * _PARTS, parts))
    return folder


def _write(folder: Path, numbers: range) -> None:
    for number in numbers:
        smooth(218, 178, number).save(folder / f"{number:06}.jpg", quality=90)
