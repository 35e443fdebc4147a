"""One scale for all values, learned with the weights."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tune_vae.science.likelihoods import Likelihood
from tune_vae.science.sigmas import Scale, Sigma, soft_lower_bound

__all__ = ["Shared"]


@dataclass(frozen=True)
class Shared(Sigma):
    r"""A learned log sigma, starting at 0, with a soft lower bound at -6.

    Adam moves it by about one learning rate per step, so that at 1e-3 it needs some thousand
    steps to fall from sigma = 1 to 0.36.

    References:
        | Rybkin et al. (2021), section 4.1
        | https://arxiv.org/abs/2006.13202

    Arguments:
        start: Sigma before training, positive and finite.
    """

    start: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.start) and self.start > 0):
            raise ValueError(f"start must be positive and finite, got {self.start}")

    def build(self, shape: tuple[int, int, int]) -> Scale:
        return SharedScale(math.log(self.start))

    def pack_key(self) -> object:
        return Shared


class SharedScale(Scale):
    def __init__(self, log_sigma: float) -> None:
        super().__init__()
        self.free_log_sigma = nn.Parameter(torch.tensor(log_sigma))

    def forward(self, x: Tensor, params: Tensor, likelihood: Likelihood) -> Tensor:
        return soft_lower_bound(self.free_log_sigma)
