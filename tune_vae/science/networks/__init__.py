"""Encoders and decoders: the contract of every network.

Shapes: B batch, M latent, P parameters per value, C H W image.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import nn

__all__ = ["Network"]


class Network(ABC):
    """Contract of a network family. Implementations are frozen dataclasses."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    @abstractmethod
    def build(
        self, shape: tuple[int, int, int], latent_dim: int, params_per_value: int
    ) -> tuple[nn.Module, nn.Module]:
        """Fresh encoder and decoder, initialised from torch's global generator.

        The encoder maps images `BCHW` to `[B, 2M]`, means before log-variances. The decoder
        maps latents `BM` to `[B, P·C·H·W]` or any shape that flattens to it, P outermost.

        Raises:
            ValueError: The network cannot be built for images of this shape.
        """
