"""One scale for all values, learned with the weights."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tune_vae.science.likelihoods import Likelihood
from tune_vae.science.sigmas import Scale, Sigma, check_positive, soft_lower_bound

__all__ = ["LearnedScale", "Shared"]


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
        check_positive("start", self.start)

    def build(self, shape: tuple[int, int, int]) -> Scale:
        return LearnedScale((), start=self.start)

    def pack_key(self) -> object:
        return Shared


class LearnedScale(Scale):
    """Log sigma as parameters of the model, the same for every example.

    Arguments:
        shape: Of the parameters, broadcastable to `CHW`.
        start: Sigma of each before training.
        bound: What keeps log sigma where numbers are finite.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        start: float,
        bound: Callable[[Tensor], Tensor] = soft_lower_bound,
    ) -> None:
        super().__init__()
        self.bound = bound
        self.free_log_sigma = nn.Parameter(torch.full(shape, math.log(start)))

    def forward(self, x: Tensor, params: Tensor, free: Tensor, likelihood: Likelihood) -> Tensor:
        return self.bound(self.free_log_sigma)
