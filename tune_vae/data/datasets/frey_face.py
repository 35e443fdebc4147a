"""One face, filmed."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from tune_vae.data import Dataset, Splits
from tune_vae.data.carving import Examples, check_arguments, divide
from tune_vae.data.files import Source, find, reading
from tune_vae.data.resizing import resized

__all__ = ["FreyFace"]


@dataclass(frozen=True)
class FreyFace(Dataset):
    """1,965 frames of a video of Brendan Frey's face, 28 pixels high and 20 wide, grey.

    There is no official split; a shuffle holds back 200 frames for validation and 200 for
    testing. Neighbouring frames are much alike, so these hardly test generalisation.

    The file is `frey_rawface.mat`. The reference code of calibrated decoders resizes to 28×28,
    which is `size: 28`: N = 784, not 560, in the tables of Rybkin et al. (2021).

    References:
        | Global Coordination of Local Linear Models (Roweis, Saul & Hinton, 2002)
        | https://cs.nyu.edu/~roweis/data.html

    Arguments:
        root: Folder of the file; a relative one starts at the current folder.
        size: Resize to so many pixels in height and width; 28 × 20 by default.
        validation: Number of images for validation.
        test: Number of images for testing.
        split_seed: Seed of the shuffle.
        limit: Train on at most this many images; all by default.
    """

    root: str = "data"
    size: int | None = None
    validation: int = 200
    test: int = 200
    split_seed: int = 0
    limit: int | None = None

    def __post_init__(self) -> None:
        check_arguments(self)

    def load(self) -> Splits:
        (file,) = find(self.root, [["frey_rawface.mat"]], _SOURCE)
        return divide(
            self._read(file),
            levels=256,
            validation=self.validation,
            test=self.test,
            split_seed=self.split_seed,
            limit=self.limit,
        )

    def _read(self, file: Path) -> Examples:
        from scipy.io import loadmat

        with reading(file):
            pixels = loadmat(file, variable_names=["ff"])["ff"]
            if pixels.dtype != np.uint8 or pixels.ndim != 2 or pixels.shape[0] != 28 * 20:
                raise ValueError(
                    f"ff holds {pixels.dtype} {list(pixels.shape)}, not uint8 [560, n]"
                )
            # A column is an image, row after row.
            images = torch.from_numpy(pixels.T.reshape(-1, 1, 28, 20).copy())
            return Examples(resized(images, self.size))


_SOURCE = Source("Frey Face", "1.1 MB", "the data page of Sam Roweis at New York University")
