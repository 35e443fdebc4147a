"""What a computation asks of a device, counted."""

from collections import Counter
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["Operations"]

PRODUCTS = ("mm", "conv")
VIEWS = (
    *("view", "transpose", "permute", "detach", "expand", "slice", "select", "squeeze"),
    *("split", "alias", "aten.t.", "as_strided"),
)


class Operations(TorchDispatchMode):
    """Within it, what reaches the kernels is counted by name; a view is none.

    Attributes:
        calls: How often each was called.
        groups: Of convolutions.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()
        self.groups: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func)
        if not any(view in name for view in VIEWS):
            self.calls[name] += 1
        if name == "aten.convolution.default":
            self.groups.add(args[-1])
        return func(*args, **(kwargs or {}))

    @property
    def all(self) -> int:
        return sum(self.calls.values())

    @property
    def products(self) -> int:
        """Matrix products and convolutions."""
        return sum(
            count for name, count in self.calls.items() if any(part in name for part in PRODUCTS)
        )
