"""States of members, compared."""

from collections.abc import Mapping

import torch

__all__ = ["same"]


def same(one: object, other: object) -> bool:
    """Whether tensors and plain values, however nested, are equal bit for bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, list):
        return all(same(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return one == other
