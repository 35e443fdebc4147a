"""Fully connected encoder and decoder."""

import math
from dataclasses import dataclass

from torch import nn

from tune_vae.science.networks import Network, check_capacity, check_widths, perceptrons

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
        check_widths(hidden=self.hidden, least=0)
        check_capacity(self.dropout, self.decoder_factor)

    def build(
        self, shape: tuple[int, int, int], latent_dim: int, params_per_value: int
    ) -> tuple[nn.Module, nn.Module]:
        values = math.prod(shape)
        encoder, decoder = perceptrons(
            values,
            self.hidden,
            latent_dim,
            values * params_per_value,
            dropout=self.dropout,
            decoder_factor=self.decoder_factor,
        )
        return nn.Sequential(nn.Flatten(), *encoder), nn.Sequential(*decoder)
