"""One scale, stated beforehand."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tune_vae.science.likelihoods import Likelihood
from tune_vae.science.sigmas import Scale, Sigma, check_positive

__all__ = ["Fixed"]


@dataclass(frozen=True)
class Fixed(Sigma):
    r"""The same sigma from beginning to end.

    For a Gaussian, sigma with beta = 1 has the same optimum as unit variance with
    $\beta = \sigma^2$: only the product of beta and sigma² is identifiable.

    Arguments:
        sigma: Scale in units of the data, which lie in [0, 1]; positive and finite.

    Example:
        >>> Fixed(sigma=1.0).build((1, 8, 8)).log_sigma
        tensor(0.)
    """

    sigma: float = 1.0

    def __post_init__(self) -> None:
        check_positive("sigma", self.sigma)

    def build(self, shape: tuple[int, int, int]) -> Scale:
        return FixedScale(math.log(self.sigma))

    def pack_key(self) -> object:
        return Fixed


class FixedScale(Scale):
    log_sigma: Tensor

    def __init__(self, log_sigma: float) -> None:
        super().__init__()
        self.register_buffer("log_sigma", torch.tensor(log_sigma))

    def forward(self, x: Tensor, params: Tensor, free: Tensor, likelihood: Likelihood) -> Tensor:
        return self.log_sigma
