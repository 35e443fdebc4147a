"""Whether anybody in a pack still trains, learned without making the device wait.

Shapes: K member of a pack.
"""

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["LOOK_STEPS", "Lookout"]

LOOK_STEPS = 10
"""Steps from one look to the next. What is lost right after a look is seen by the next one and
told by the one after it, hence within 20 steps."""


class Lookout:
    """Looks at a pack every `LOOK_STEPS` steps of an epoch.

    A GPU works off a queue of steps. To ask how the last one went would empty the queue and leave
    the device idle, so each look sends for its answer and gives that of the look before it,
    which has long arrived. It is the same on a CPU, so that epochs are of equal length there.
    """

    def __init__(self) -> None:
        self._alive: Callable[[], bool] = lambda: True

    def all_lost(self, alive_K: Tensor) -> bool:
        """Whether no member was alive at the look before this one."""
        before, self._alive = self._alive, _sent_for(alive_K.any())
        return not before()


def _sent_for(flag: Tensor) -> Callable[[], bool]:
    """A flag on its way from the device, and what waits for its arrival."""
    if flag.device.type != "cuda":
        return lambda: bool(flag)
    # Only into pinned memory does a copy not wait.
    copy = torch.empty((), dtype=torch.bool, pin_memory=True).copy_(flag, non_blocking=True)
    arrival = torch.cuda.current_stream(flag.device).record_event()

    def value() -> bool:
        arrival.synchronize()
        return bool(copy)

    return value
