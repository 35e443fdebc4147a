"""A coin flip for each binary digit of a grey level."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from tune_vae.science.likelihoods import Likelihood, Measure

__all__ = ["BitwiseCategorical"]

BITS, LEVELS = 8, 256


@dataclass(frozen=True)
class BitwiseCategorical(Likelihood):
    r"""Independent Bernoulli distributions of the eight bits of an 8-bit value.

    $$ \log P(x) = \sum_{b=0}^{7} \log \varsigma\left((2 k_b - 1) \eta_b\right),\quad
       255\,x = \sum_b k_b 2^b,\quad \varsigma(u) = 1 / (1 + e^{-u}) $$

    A categorical distribution with eight parameters instead of 256. It cannot say every
    distribution, and neighbours such as 127 and 128 differ in all bits. A probability on data
    of 256 levels only.

    References:
        | Rybkin et al. (2021), section 5.1: "bitwise-categorical"
        | https://arxiv.org/abs/2006.13202

    Example:
        >>> likelihood, zero = BitwiseCategorical(), torch.zeros(())
        >>> likelihood.log_prob(torch.ones(1, 1), torch.zeros(1, 8, 1), zero).exp() * 256
        tensor([[1.]])
    """

    @property
    def params_per_value(self) -> int:
        return BITS

    def measure(self, levels: int | None) -> Measure:
        return Measure.MASS if levels == LEVELS else Measure.IMPROPER

    def log_prob(self, x: Tensor, params: Tensor, log_sigma: Tensor) -> Tensor:
        level = (x * (LEVELS - 1)).round().clamp(0, LEVELS - 1).unsqueeze(1)
        bits = (level / _powers(params)).floor() % 2
        return logsigmoid((2 * bits - 1) * params).sum(1)

    def mean(self, params: Tensor) -> Tensor:
        return (params.sigmoid() * _powers(params)).sum(1) / (LEVELS - 1)

    def sample(self, params: Tensor, log_sigma: Tensor, generator: torch.Generator) -> Tensor:
        bits = torch.bernoulli(params.sigmoid(), generator=generator)
        return (bits * _powers(params)).sum(1) / (LEVELS - 1)


def _powers(params: Tensor) -> Tensor:
    """Weight of each bit, in the shape of one example's parameters with other axes 1."""
    weights = [2.0**bit for bit in range(BITS)]
    powers = torch.tensor(weights, dtype=params.dtype, device=params.device)
    return powers.reshape(BITS, *[1] * (params.ndim - 2))
