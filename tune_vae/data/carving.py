"""Cutting what was read into training, validation and test examples.

Shapes: n examples, C H W image.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tune_vae.data import Dataset, Splits, Targets
from tune_vae.errors import DataError

__all__ = [
    "Examples",
    "carve",
    "check_arguments",
    "divide",
    "held_back",
    "shuffled",
]


@dataclass(frozen=True)
class Examples:
    """What a file holds, before any split.

    Arguments:
        images: `[n, C, H, W]`.
        labels: Class of each, `[n]`, int64; None where there are none.
        factors: Generative factors of each, `[n, F]`, int64; likewise.
        covariate: Class of each in the sense of `Splits`, `[n]`, int64; likewise.
    """

    images: Tensor
    labels: Tensor | None = None
    factors: Tensor | None = None
    covariate: Tensor | None = None

    def __post_init__(self) -> None:
        for known in self._known():
            if known is not None and len(known) != len(self.images):
                raise ValueError(f"{len(known):,} labels for {len(self.images):,} examples")

    def __len__(self) -> int:
        return len(self.images)

    def pick(self, index: Tensor) -> "Examples":
        """Those at the positions given."""
        known = (None if one is None else one[index] for one in self._known())
        return Examples(self.images[index], *known)

    def _known(self) -> tuple[Tensor | None, ...]:
        return self.labels, self.factors, self.covariate


_SEEDS = ("seed", "split_seed", "draw_seed")
_SIZES = ("size", "crop", "examples", "genes", "validation", "test", "limit")
_SHARES = ("validation_share", "test_share")


def check_arguments(dataset: Dataset) -> None:
    """Refuse what arguments cannot be, in a data set's `__post_init__`; their names say what.

    | names                                         | allowed                                   |
    |-----------------------------------------------|-------------------------------------------|
    | `seed`, `split_seed`, `draw_seed`             | what `torch.Generator` takes              |
    | `size`, `crop`, `examples`, `genes`,          | from 1 on, or None                        |
    | `validation`, `test`, `limit`                 |                                           |
    | `validation_share`, `test_share`              | shares of the examples that leave some    |

    Raises:
        ValueError: It begins with the argument's name.
    """
    given = vars(dataset)
    for name in _SEEDS:
        if not 0 <= given.get(name, 0) < 2**63:
            raise ValueError(f"{name} must be from 0 to 2^63 - 1, got {given[name]}")
    for name in _SIZES:
        if given.get(name) is not None and given[name] < 1:
            raise ValueError(f"{name} must be at least 1, got {given[name]}")
    shares = {name: given[name] for name in _SHARES if name in given}
    for name, share in shares.items():
        if not 0 < share < 1:
            raise ValueError(f"{name} must be above 0 and below 1, got {share}")
    if sum(shares.values()) >= 1:
        raise ValueError(
            f"{' and '.join(shares)} must leave examples to train on, got "
            f"{' and '.join(map(str, shares.values()))}"
        )


def held_back(count: int, *shares: float) -> list[int]:
    """How many of so many examples each share is, at least 1."""
    return [max(1, round(share * count)) for share in shares]


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
    left, held = map(train.pick, shuffled(len(train), [validation], split_seed))
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
    parts = map(whole.pick, shuffled(len(whole), [validation, test], split_seed))
    return _splits(*parts, levels=levels, limit=limit)


def shuffled(count: int, held: Sequence[int], seed: int) -> list[Tensor]:
    """Positions of the examples that are left, then of each part held back, `[n]` each.

    Arguments:
        count: How many examples there are.
        held: How many to hold back for each part.
        seed: Of the shuffle.

    Raises:
        DataError: None is left to train on.
    """
    left = count - sum(held)
    if left < 1:
        raise DataError(
            f"holding back {' + '.join(f'{part:,}' for part in held)} of {count:,} examples "
            "leaves none to train on; hold back fewer"
        )
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return list(torch.split(order, [left, *held]))


def _splits(
    train: Examples,
    validation: Examples,
    test: Examples,
    *,
    levels: int | None,
    limit: int | None,
) -> Splits:
    train = train.pick(torch.arange(len(train))[:limit])
    parts = [train, validation, test]
    return Splits(
        train=train.images,
        validation=validation.images,
        test=test.images,
        levels=levels,
        labels=_targets([part.labels for part in parts]),
        factors=_targets([part.factors for part in parts]),
        covariate=_targets([part.covariate for part in parts]),
    )


def _targets(parts: Sequence[Tensor | None]) -> Targets | None:
    known = [one for one in parts if one is not None]
    return Targets(*known) if len(known) == len(parts) else None
