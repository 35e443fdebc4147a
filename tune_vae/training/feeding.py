"""Batches on the device, wherever the examples lie.

Shapes: n examples, K member of a pack, T steps of an epoch, B batch, C H W image.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

__all__ = ["batches", "placed", "streamed"]

SHARE = 0.25
"""Of a GPU's free memory, what examples may take; the trials beside this one want some, too."""

AHEAD = 2
"""Batches that are picked while the device is at work on an earlier one."""


def placed(images: Tensor, device: torch.device) -> Tensor:
    """The images where batches are best taken from.

    On a CPU these are the images themselves, mapped files included: nothing is copied. On a GPU it
    is a copy there, if it fits, else again the images themselves.
    """
    if device.type != "cuda":
        return images.to(device)
    free, _ = torch.cuda.mem_get_info(device)
    # What torch holds ready for itself counts as taken there.
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return images.to(device) if images.nbytes <= SHARE * free else images


def batches(images: Tensor, order_KTB: Tensor, device: torch.device) -> Iterator[Tensor]:
    """The images of each step, on the device, `[K, B, C, H, W]`.

    Arguments:
        images: `[n, C, H, W]`, from `placed`.
        order_KTB: Positions in them, on the host.
        device: Where they are wanted.
    """
    if images.device.type != device.type:
        yield from streamed(images, order_KTB, device)
    else:
        for order_KB in order_KTB.to(images.device).unbind(1):
            yield _picked(images, order_KB)


def streamed(images: Tensor, order_KTB: Tensor, device: torch.device) -> Iterator[Tensor]:
    """The same from the memory of the host or a mapped file; a thread picks them meanwhile."""

    def pick(order_KB: Tensor) -> Tensor:
        shape = (*order_KB.shape, *images.shape[1:])
        # From pinned memory a GPU copies by itself.
        pinned = torch.empty(shape, dtype=images.dtype, pin_memory=device.type == "cuda")
        return _picked(images, order_KB, out=pinned)

    waiting: deque[Future[Tensor]] = deque()
    with ThreadPoolExecutor(1) as reader:
        for order_KB in order_KTB.unbind(1):
            waiting.append(reader.submit(pick, order_KB))
            if len(waiting) > AHEAD:
                yield waiting.popleft().result().to(device, non_blocking=True)
        while waiting:
            yield waiting.popleft().result().to(device, non_blocking=True)


def _picked(images: Tensor, order_KB: Tensor, *, out: Tensor | None = None) -> Tensor:
    """`images[order_KB]`, which would copy bytes one by one on a CPU, seven times as slowly."""
    flat = None if out is None else out.flatten(0, 1)
    picked = torch.index_select(images, 0, order_KB.flatten(), out=flat)
    return picked.view(*order_KB.shape, *images.shape[1:])
