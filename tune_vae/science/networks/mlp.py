"""Fully connected encoder and decoder."""

import math
from dataclasses import dataclass
from itertools import pairwise

from torch import nn

from tune_vae.science.networks import Network, activation, check_capacity, widened

__all__ = ["Mlp"]


@dataclass(frozen=True)
class Mlp(Network):
    """Linear layers with ReLU between them; the decoder mirrors the encoder.

    Arguments:
        hidden: Widths of the encoder's hidden layers, each at least 1; empty gives a linear
            model.
        dropout: Share of the values that training leaves out after every hidden layer of encoder
            and decoder, in [0, 1).
        decoder_factor: How many times as wide the decoder's hidden layers are as the encoder's,
            above 0 and at most 16.
    """

    hidden: tuple[int, ...] = (256, 256)
    dropout: float = 0.0
    decoder_factor: float = 1.0

    def __post_init__(self) -> None:
        if any(width < 1 for width in self.hidden):
            raise ValueError(f"hidden widths must be at least 1, got {list(self.hidden)}")
        check_capacity(self.dropout, self.decoder_factor)

    def build(
        self, shape: tuple[int, int, int], latent_dim: int, params_per_value: int
    ) -> tuple[nn.Module, nn.Module]:
        values = math.prod(shape)
        mirror = widened(self.hidden[::-1], self.decoder_factor)
        encoder = self._layers([values, *self.hidden, 2 * latent_dim])
        decoder = self._layers([latent_dim, *mirror, values * params_per_value])
        return nn.Sequential(nn.Flatten(), *encoder), nn.Sequential(*decoder)

    def _layers(self, widths: list[int]) -> list[nn.Module]:
        *hidden, last = (nn.Linear(inputs, outputs) for inputs, outputs in pairwise(widths))
        layers: list[nn.Module] = []
        for layer in hidden:
            layers += [layer, *activation(self.dropout)]
        return [*layers, last]
