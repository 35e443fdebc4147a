"""Encoders and decoders: the contract of every network.

Shapes: B batch, M latent, P parameters per value, C H W image.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

from torch import nn

from tune_vae.science.dropout import Dropout
from tune_vae.science.likelihoods import Domain

__all__ = [
    "Network",
    "activation",
    "check_capacity",
    "check_widths",
    "perceptrons",
    "widened",
]


class Network(ABC):
    """Contract of a network family. Implementations are frozen dataclasses.

    `tune_vae.testing.check_network` says in words what one of your own does not keep of it.

    Attributes:
        domains: Data it is made for; others are refused.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}
    domains: ClassVar[frozenset[Domain]] = frozenset(Domain)

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


def activation(dropout: float) -> list[nn.Module]:
    """What follows a hidden layer: a ReLU, and dropout if its rate is not 0."""
    return [nn.ReLU(), Dropout(dropout)] if dropout else [nn.ReLU()]


def perceptrons(
    inputs: int,
    hidden: Sequence[int],
    latent_dim: int,
    outputs: int,
    *,
    dropout: float,
    decoder_factor: float,
    normed: bool = False,
) -> tuple[list[nn.Module], list[nn.Module]]:
    """Linear layers of an encoder and of the decoder that mirrors it, ReLU between them.

    Arguments:
        inputs: Numbers that the encoder is given of an example.
        hidden: Widths of its hidden layers.
        latent_dim: M.
        outputs: Numbers that the decoder gives.
        dropout: Rate after each hidden layer.
        decoder_factor: How many times as wide the decoder's hidden layers are.
        normed: Whether hidden layers are normalised within each example.
    """
    mirror = widened(hidden[::-1], decoder_factor)
    return (
        _dense([inputs, *hidden, 2 * latent_dim], dropout, normed=normed),
        _dense([latent_dim, *mirror, outputs], dropout, normed=normed),
    )


def widened(widths: Sequence[int], factor: float) -> list[int]:
    """Widths times a factor, rounded, each at least 1."""
    return [max(1, round(factor * width)) for width in widths]


def check_widths(*, least: int = 1, **widths: Sequence[int]) -> None:
    """Refuse layers of no width, and fewer of them than `least`, by the argument's name."""
    for name, each in widths.items():
        if len(each) < least or any(width < 1 for width in each):
            wanted = (
                f"name at least {least} positive width" if least else "be widths of at least 1"
            )
            raise ValueError(f"{name} must {wanted}, got {list(each)}")


def check_capacity(dropout: float, decoder_factor: float) -> None:
    """Refuse what no network can be built with."""
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be at least 0 and below 1, got {dropout}")
    if not 0 < decoder_factor <= 16:
        raise ValueError(f"decoder_factor must be above 0 and at most 16, got {decoder_factor}")


def _dense(widths: Sequence[int], dropout: float, *, normed: bool) -> list[nn.Module]:
    *hidden, last = (nn.Linear(inputs, outputs) for inputs, outputs in pairwise(widths))
    layers: list[nn.Module] = []
    for layer in hidden:
        norm = [nn.LayerNorm(layer.out_features)] if normed else []
        layers += [layer, *norm, *activation(dropout)]
    return [*layers, last]
