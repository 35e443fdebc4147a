"""Cutting what was read into training, validation and test examples.

Shapes: n examples, C H W image.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tune_vae.data import Splits, Targets
from tune_vae.errors import DataError

__all__ = ["Examples", "carve", "check_seeds", "check_sizes", "divide"]


@dataclass(frozen=True)
class Examples:
    """What a file holds, before any split.

    Arguments:
        images: `[n, C, H, W]`.
        labels: Class of each, `[n]`, int64; None where there are none.
    """

    images: Tensor
    labels: Tensor | None = None

    def __post_init__(self) -> None:
        if self.labels is not None and len(self.labels) != len(self.images):
            raise ValueError(f"{len(self.labels):,} labels for {len(self.images):,} examples")

    def __len__(self) -> int:
        return len(self.images)

    def pick(self, index: Tensor) -> "Examples":
        """Those at the positions given."""
        return Examples(self.images[index], None if self.labels is None else self.labels[index])


def check_seeds(**seeds: int) -> None:
    """Refuse seeds that `torch.Generator` does not take, in a data set's `__post_init__`.

    Raises:
        ValueError: It begins with the argument's name.
    """
    for name, seed in seeds.items():
        if not 0 <= seed < 2**63:
            raise ValueError(f"{name} must be from 0 to 2^63 - 1, got {seed}")


def check_sizes(**sizes: int | None) -> None:
    """Refuse sizes below 1 other than None, likewise.

    Raises:
        ValueError: It begins with the argument's name.
    """
    for name, size in sizes.items():
        if size is not None and size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}")


def carve(
    train: Examples,
    test: Examples,
    *,
    levels: int,
    validation: int,
    split_seed: int,
    limit: int | None,
) -> Splits:
    """Keep the official test examples; carve validation out of the training ones.

    Arguments:
        train, test: As the data set's authors divided them.
        levels: See `Splits`.
        validation: How many to take from `train`, by a shuffle.
        split_seed: Of the shuffle.
        limit: Keep at most this many training examples; None for all that are left.

    Raises:
        DataError: Nothing is left to train on.
    """
    left, held = _shuffled(train, [validation], split_seed)
    return _splits(left, held, test, levels=levels, limit=limit)


def divide(
    whole: Examples,
    *,
    levels: int | None,
    validation: int,
    test: int,
    split_seed: int,
    limit: int | None,
) -> Splits:
    """Split by one shuffle a data set whose authors did not.

    Arguments:
        whole: All examples.
        validation, test: How many of them.
        levels, split_seed, limit: See `carve`.

    Raises:
        DataError: Nothing is left to train on.
    """
    parts = _shuffled(whole, [validation, test], split_seed)
    return _splits(*parts, levels=levels, limit=limit)


def _shuffled(whole: Examples, held: Sequence[int], seed: int) -> list[Examples]:
    """What is left, then the parts held back."""
    left = len(whole) - sum(held)
    if left < 1:
        raise DataError(
            f"holding back {' + '.join(f'{part:,}' for part in held)} of {len(whole):,} examples "
            "leaves none to train on; hold back fewer"
        )
    order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(seed))
    return [whole.pick(index) for index in torch.split(order, [left, *held])]


def _splits(
    train: Examples,
    validation: Examples,
    test: Examples,
    *,
    levels: int | None,
    limit: int | None,
) -> Splits:
    few = train.pick(torch.arange(len(train))[:limit])
    labels = [part.labels for part in (few, validation, test)]
    known = [one for one in labels if one is not None]
    return Splits(
        train=few.images,
        validation=validation.images,
        test=test.images,
        levels=levels,
        labels=Targets(*known) if len(known) == len(labels) else None,
    )
