"""Fully connected encoder and decoder."""

import math
from dataclasses import dataclass
from itertools import pairwise

from torch import nn

from tune_vae.science.networks import Network

__all__ = ["Mlp"]


@dataclass(frozen=True)
class Mlp(Network):
    """Linear layers with ReLU between them; the decoder mirrors the encoder.

    Arguments:
        hidden: Widths of the encoder's hidden layers, each at least 1; empty gives a linear
            model.
    """

    hidden: tuple[int, ...] = (256, 256)

    def __post_init__(self) -> None:
        if any(width < 1 for width in self.hidden):
            raise ValueError(f"hidden widths must be at least 1, got {list(self.hidden)}")

    def build(
        self, shape: tuple[int, int, int], latent_dim: int, params_per_value: int
    ) -> tuple[nn.Module, nn.Module]:
        values = math.prod(shape)
        encoder = nn.Sequential(nn.Flatten(), *_layers([values, *self.hidden, 2 * latent_dim]))
        decoder = nn.Sequential(
            *_layers([latent_dim, *reversed(self.hidden), values * params_per_value])
        )
        return encoder, decoder


def _layers(widths: list[int]) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return layers[:-1]
