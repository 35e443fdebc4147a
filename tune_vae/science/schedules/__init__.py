"""How the KL weight moves during training: the contract of every schedule.

Shapes: T points in time.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor

__all__ = ["Schedule"]


class Schedule(ABC):
    """Contract of a KL schedule w(t). Implementations are frozen dataclasses without state."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    @abstractmethod
    def weight(self, progress_T: Tensor) -> Tensor:
        """KL weight in [0, 1] at each share of the training in [0, 1]; exactly 1 at the end."""

    def for_steps(self, steps: int) -> "Schedule":
        """The schedule of a training of so many optimiser steps; mostly itself."""
        return self
