"""Values that JSON can hold."""

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["finite"]


def finite(value: Any) -> Any:
    """A value with None for the numbers in it that JSON does not have.

    Example:
        >>> finite({"loss": float("nan"), "steps": (1, float("inf"))})
        {'loss': None, 'steps': [1, None]}
    """
    if isinstance(value, Mapping):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
