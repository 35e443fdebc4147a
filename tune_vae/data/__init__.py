"""Images as small integers, split once: the contract of every data set.

Shapes: n images, C H W image.
"""

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tune_vae.errors import DataError

__all__ = ["Dataset", "Splits", "scale"]


@dataclass(frozen=True)
class Splits:
    """A data set, ready to train on.

    Arguments:
        train, validation, test: Images `[n, C, H, W]`, uint8, each value a level from 0 to
            `levels` - 1.
        levels: L, number of levels of a value: 2 for binary, 256 for 8-bit images.
    """

    train: Tensor
    validation: Tensor
    test: Tensor
    levels: int

    def __post_init__(self) -> None:
        if not 2 <= self.levels <= 256:
            raise DataError(f"levels must be from 2 to 256, got {self.levels}")
        for name in ("train", "validation", "test"):
            images = getattr(self, name)
            if images.dtype != torch.uint8 or images.ndim != 4 or not len(images):
                raise DataError(
                    f"the {name} images must be a non-empty uint8 tensor [n, C, H, W], got "
                    f"{images.dtype} {list(images.shape)}"
                )
            if images.shape[1:] != self.train.shape[1:]:
                raise DataError(
                    f"the {name} images have the shape {list(images.shape[1:])}, the train "
                    f"images {list(self.train.shape[1:])}"
                )
            if int(images.max()) >= self.levels:
                raise DataError(
                    f"the {name} images hold the value {int(images.max())}, but only "
                    f"{self.levels} levels are stated"
                )

    @property
    def shape(self) -> tuple[int, int, int]:
        """C, H, W of one image."""
        channels, height, width = self.train.shape[1:]
        return channels, height, width

    @property
    def values(self) -> int:
        """N, data values of one image."""
        return self.train[0].numel()

    def digest(self) -> str:
        """Fingerprint of all three splits, 16 hexadecimal digits."""
        state = hashlib.sha256(f"{self.levels}".encode())
        for images in (self.train, self.validation, self.test):
            state.update(str(tuple(images.shape)).encode())
            state.update(images.contiguous().numpy().tobytes())
        return state.hexdigest()[:16]


def scale(images: Tensor, levels: int) -> Tensor:
    """Levels 0 … L-1 to float32 in [0, 1], on the device where the images are."""
    return images.to(torch.float32) / (levels - 1)


class Dataset(ABC):
    """Contract of a data set. Implementations are frozen dataclasses."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    @abstractmethod
    def load(self) -> Splits:
        """The images, always the same for the same arguments.

        Raises:
            DataError: They are absent or broken. The message says where they are expected and
                how to get them.
        """
