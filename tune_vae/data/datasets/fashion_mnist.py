"""Photographs of clothes, made to be harder than handwritten digits."""

from dataclasses import dataclass

from tune_vae.data import Dataset, Splits
from tune_vae.data.carving import carve, check_arguments
from tune_vae.data.files import Source
from tune_vae.data.idx import read_mnist_files

__all__ = ["FashionMnist"]


@dataclass(frozen=True)
class FashionMnist(Dataset):
    """70,000 grey photographs of 28×28 pixels in 10 classes, 10,000 of them for testing.

    The four files are expected as torchvision keeps them, in `FashionMNIST/raw/`, or in `root`
    itself; packed or not.

    References:
        | Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms
          (Xiao et al., 2017)
        | https://arxiv.org/abs/1708.07747

    Arguments:
        root: Folder of the files; a relative one starts at the current folder.
        download: Whether to get absent files (31 MB).
        validation: Number of the official training images held back for validation.
        split_seed: Seed of which ones.
        limit: Train on at most this many images; all by default.
    """

    root: str = "data"
    download: bool = False
    validation: int = 5000
    split_seed: int = 0
    limit: int | None = None

    def __post_init__(self) -> None:
        check_arguments(self)

    def load(self) -> Splits:
        train, test = read_mnist_files(self.root, "FashionMNIST", _SOURCE, download=self.download)
        return carve(
            train,
            test,
            levels=256,
            validation=self.validation,
            split_seed=self.split_seed,
            limit=self.limit,
        )


def _fetch(folder: str) -> None:
    from torchvision.datasets import FashionMNIST

    FashionMNIST(folder, download=True)


_SOURCE = Source("Fashion-MNIST", "31 MB", "the project zalandoresearch/fashion-mnist", _fetch)
