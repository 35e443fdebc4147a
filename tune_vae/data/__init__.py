"""Values as small integers, split once: the contract of every data set.

Shapes: n examples, C H W image, F factors. Counts are images of one row: C = H = 1, W genes.
"""

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from tune_vae.errors import DataError

__all__ = ["Dataset", "Splits", "Targets", "scale"]


class Targets(NamedTuple):
    """What is known of the examples of each split; int64, one row an example."""

    train: Tensor
    validation: Tensor
    test: Tensor


@dataclass(frozen=True)
class Splits:
    """A data set, ready to train on.

    Arguments:
        train, validation, test: Examples `[n, C, H, W]`. Levels are uint8, from 0 to
            `levels` - 1; counts are int32, at least 0.
        levels: L, number of levels of a value: 2 for binary, 256 for 8-bit images; None for
            counts, which have no largest value.
        labels: Class of each example, `[n]`, from 0; for scores of the representation, and for
            conditional models.
        factors: Generative factors of each example, `[n, F]`, each from 0; for such scores only.
        covariate: Of each example a class that is not of interest but shows, such as the batch in
            which cells were measured, `[n]`, from 0; conditional models are told it instead of
            the label.
        skipped: How many examples were left out because their files are broken.

    The examples may lie in a file that is mapped into memory and shared with other processes:
    never write into them, and take batches of them rather than copies of the whole.
    """

    train: Tensor
    validation: Tensor
    test: Tensor
    levels: int | None
    labels: Targets | None = None
    factors: Targets | None = None
    covariate: Targets | None = None
    skipped: int = 0

    def __post_init__(self) -> None:
        if self.levels is not None and not 2 <= self.levels <= 256:
            raise DataError(f"levels must be from 2 to 256, or None for counts, got {self.levels}")
        kind = torch.int32 if self.levels is None else torch.uint8
        for name in ("train", "validation", "test"):
            images = getattr(self, name)
            if images.dtype != kind or images.ndim != 4 or not len(images):
                raise DataError(
                    f"the {name} images must be a non-empty {str(kind)[6:]} tensor [n, C, H, W], "
                    f"got {images.dtype} {list(images.shape)}"
                )
            if images.shape[1:] != self.train.shape[1:]:
                raise DataError(
                    f"the {name} images have the shape {list(images.shape[1:])}, the train "
                    f"images {list(self.train.shape[1:])}"
                )
            # A byte cannot exceed 256 levels; looking would read a mapped file to its end.
            if self.levels and self.levels < 256 and int(images.max()) >= self.levels:
                raise DataError(
                    f"the {name} images hold the value {int(images.max())}, but only "
                    f"{self.levels} levels are stated"
                )
            if self.levels is None and int(images.min()) < 0:
                raise DataError(f"the {name} counts hold {int(images.min())}, below 0")
            for targets in (self.labels, self.factors, self.covariate):
                if targets is None:
                    continue
                known = getattr(targets, name)
                if len(known) != len(images):
                    raise DataError(f"{len(known)} labels for {len(images)} {name} images")
                if known.min() < 0:
                    raise DataError(
                        f"the {name} images have the label {int(known.min())}, below 0"
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

    @property
    def told(self) -> Targets | None:
        """What conditional models are told of the examples; None if they could be told nothing."""
        return self.covariate or self.labels

    @property
    def classes(self) -> int:
        """Y, one more than the largest class in `told`; 0 without any."""
        return 1 + max(int(part.max()) for part in self.told) if self.told else 0

    def first(self, train: int, validation: int, test: int) -> "Splits":
        """So many examples of the beginning of each part."""

        def few(parts: Targets | None) -> Targets | None:
            if parts is None:
                return None
            return Targets(parts.train[:train], parts.validation[:validation], parts.test[:test])

        return replace(
            self,
            train=self.train[:train],
            validation=self.validation[:validation],
            test=self.test[:test],
            labels=few(self.labels),
            factors=few(self.factors),
            covariate=few(self.covariate),
        )

    def digest(self, *, conditional: bool = False) -> str:
        """Fingerprint of all three splits, 16 hexadecimal digits.

        Arguments:
            conditional: Whether what conditional models are told is part of it.
        """
        state = hashlib.sha256(f"{self.levels}".encode())
        for images in (self.train, self.validation, self.test):
            state.update(str(tuple(images.shape)).encode())
            # Of what is contiguous, as in a mapped file, nothing is copied.
            state.update(images.contiguous().view(-1).numpy().data)
        for part in (self.told or ()) if conditional else ():
            state.update(part.contiguous().numpy().tobytes())
        return state.hexdigest()[:16]


def scale(images: Tensor, levels: int | None) -> Tensor:
    """Levels 0 … L-1 to float32 in [0, 1], counts as they are, on the device of the images."""
    return images.to(torch.float32) / (levels - 1 if levels else 1)


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
