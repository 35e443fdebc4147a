"""Handwritten digits that come with scikit-learn."""

from dataclasses import dataclass

import torch

from tune_vae.data import Dataset, Splits

__all__ = ["Digits"]


@dataclass(frozen=True)
class Digits(Dataset):
    """1,797 real handwritten digits of 8×8 pixels with 17 grey levels; nothing is downloaded.

    Split by a fixed shuffle into 1,297 training, 250 validation and 250 test images.

    References:
        | Optical Recognition of Handwritten Digits (Alpaydin & Kaynak, 1998)
        | https://archive.ics.uci.edu/dataset/80

    Arguments:
        split_seed: Seed of the shuffle.
    """

    split_seed: int = 0

    def load(self) -> Splits:
        # Imported here: scikit-learn takes a second, and only this data set needs it.
        from sklearn.datasets import load_digits

        images = torch.from_numpy(load_digits().images).to(torch.uint8).unsqueeze(1)
        order = torch.randperm(
            len(images), generator=torch.Generator().manual_seed(self.split_seed)
        )
        images = images[order]
        return Splits(
            train=images[:1297], validation=images[1297:1547], test=images[1547:], levels=17
        )
