"""Networks whose products are rounded, in a pack as alone.

`torch.autocast` would be the usual way, and does not reach below `torch.func.vmap`: with torch
2.15 on a CPU it passes over convolutions there, and over linear layers with a bias, without a
word (https://github.com/pytorch/pytorch/issues/105442). So functions are overridden before `vmap`
sees them.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["Products"]

PRODUCTS = frozenset(
    {
        *("linear", "bilinear", "conv1d", "conv2d", "conv3d"),
        *("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
        *("matmul", "__matmul__", "__rmatmul__", "mm", "bmm", "mv", "addmm", "baddbmm", "einsum"),
        "scaled_dot_product_attention",
    }
)
"""By the names of torch's functions and methods."""


class Products(TorchFunctionMode):
    """Within it, products take and give numbers of another precision.

    What follows a product has that precision as well, until something else comes in: a function
    of both, such as a norm with weights, is one of the higher.

    Arguments:
        dtype: The lower precision, such as bfloat16.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self._dtype = dtype

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Collection[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = (args, dict(kwargs or {}))
        name = getattr(func, "__name__", "")
        if name in PRODUCTS:
            given = _in(self._dtype, given)
        elif not _writes(name):
            found = {x.dtype for x in _tensors(given)}
            if self._dtype in found and len(found) == 2:
                (higher,) = found - {self._dtype}
                given = _in(higher, given)
        return func(*given[0], **given[1])


def _writes(name: str) -> bool:
    """Whether a function changes its first operand, of which a cast would be a copy."""
    return name.startswith(("__i", "__set")) or (name.endswith("_") and not name.endswith("__"))


def _tensors(given: Any) -> Iterator[Tensor]:
    """Of floating point, in what a function is given."""
    if isinstance(given, Tensor):
        if given.is_floating_point():
            yield given
    elif type(given) in (list, tuple):
        for one in given:
            yield from _tensors(one)
    elif isinstance(given, dict):
        yield from _tensors(list(given.values()))


def _in(dtype: torch.dtype, given: Any) -> Any:
    """The same with tensors of floating point cast."""
    if isinstance(given, Tensor):
        return given.to(dtype) if given.is_floating_point() else given
    if type(given) in (list, tuple):
        return type(given)([_in(dtype, one) for one in given])
    if isinstance(given, dict):
        return {key: _in(dtype, one) for key, one in given.items()}
    return given
