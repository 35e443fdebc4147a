"""The scale that makes each training batch most probable."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tune_vae.science.likelihoods import Likelihood
from tune_vae.science.sigmas import Scale, Sigma, soft_lower_bound

__all__ = ["Optimal"]


@dataclass(frozen=True)
class Optimal(Sigma):
    r"""Analytic scale of the batch; for a Gaussian $\sigma^2 = \mathrm{MSE}$.

    Training uses the batch's own optimum, detached: its derivative is zero there. Validation
    uses the running average of the variances, so it never fits a scale to what it scores.

    References:
        | Rybkin et al. (2021), section 4.2
        | https://arxiv.org/abs/2006.13202

    Arguments:
        decay: Weight of the past in the running average, in [0, 1). The first batches are
            averaged evenly until their number exceeds 1 / (1 - decay).
    """

    decay: float = 0.98

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay must be at least 0 and below 1, got {self.decay}")

    def build(self, shape: tuple[int, int, int]) -> Scale:
        return OptimalScale(self.decay)


class OptimalScale(Scale):
    variance: Tensor
    batches: Tensor

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("variance", torch.tensor(1.0))
        self.register_buffer("batches", torch.tensor(0.0))

    def forward(self, x: Tensor, params: Tensor, likelihood: Likelihood) -> Tensor:
        if not self.training:
            return 0.5 * self.variance.log()
        log_sigma = soft_lower_bound(likelihood.optimal_log_sigma(x, params).detach())
        self.batches.add_(1.0)
        share = (1 / self.batches).clamp(min=1 - self.decay)
        self.variance.add_(share * ((2 * log_sigma).exp() - self.variance))
        return log_sigma
