"""Fully connected encoder and decoder of counts, of which some examples hold more than others."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from tune_vae.science.likelihoods import Domain
from tune_vae.science.networks import Network, check_capacity, check_widths, perceptrons

__all__ = ["Counts"]

_LIBRARY = 1e4
"""Total that all examples are brought to, customary for cells."""


@dataclass(frozen=True)
class Counts(Network):
    r"""Sees how the counts divide apart from how many there are.

    The likelihoods of counts show the encoder $\log(1 + x)$, in which an example that was
    counted twice as deeply looks like another one. Here a first layer without weights turns that
    into

    $$ \Bigl(\log\bigl(1 + \tfrac{10^4}{\ell} x_i\bigr),\ \log \tfrac{\ell}{10^4}\Bigr),\quad
       \ell = \max\Bigl(1, \sum_i x_i\Bigr), $$

    the library size ℓ being one more input. The decoder gives shares as it does with `mlp`; by
    default the likelihood tells it the library (`library: observed`). Hidden layers are
    normalised within each example, because their inputs reach from 0 to 10.

    References:
        | Deep generative modeling for single-cell transcriptomics (Lopez et al., 2018)
        | https://doi.org/10.1038/s41592-018-0229-2

    Arguments:
        hidden: Widths of the encoder's hidden layers, at least one layer; the decoder mirrors
            them.
        dropout, decoder_factor: As of `mlp`.
    """

    hidden: tuple[int, ...] = (128, 128)
    dropout: float = 0.0
    decoder_factor: float = 1.0

    domains: ClassVar[frozenset[Domain]] = frozenset({Domain.COUNTS})

    def __post_init__(self) -> None:
        check_widths(hidden=self.hidden)
        check_capacity(self.dropout, self.decoder_factor)

    def build(
        self, shape: tuple[int, int, int], latent_dim: int, params_per_value: int
    ) -> tuple[nn.Module, nn.Module]:
        values, inputs = math.prod(shape), math.prod(shape[1:]) + shape[0]
        encoder, decoder = perceptrons(
            inputs,
            self.hidden,
            latent_dim,
            values * params_per_value,
            dropout=self.dropout,
            decoder_factor=self.decoder_factor,
            normed=True,
        )
        return nn.Sequential(_Shares(), *encoder), nn.Sequential(*decoder)


class _Shares(nn.Module):
    """Logarithms of counts as logarithms of their shares and of the library.

    Counts are one channel; further ones, each of a single value, are what a conditional model
    is told, and go by as one number each. `[B, C, H, W]` becomes `[B, H·W + 1 + C - 1]`.
    """

    def forward(self, given: Tensor) -> Tensor:
        counts = given[:, 0].flatten(1).expm1()
        library = counts.sum(1, keepdim=True).clamp(min=1) / _LIBRARY
        told = given[:, 1:].flatten(2).mean(2)
        return torch.cat([(counts / library).log1p(), library.log(), told], dim=1)
