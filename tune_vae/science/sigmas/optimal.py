"""The scale that makes each training batch most probable."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from tune_vae.science.likelihoods import Likelihood
from tune_vae.science.sigmas import Scale, Sigma, soft_lower_bound

__all__ = ["Optimal", "check_decay", "share_of_newest"]


@dataclass(frozen=True)
class Optimal(Sigma):
    r"""Analytic scale of the data; for a Gaussian $\sigma^2 = \mathrm{MSE}$.

    Validation uses the running average of the training batches' variances, so it never fits a
    scale to what it scores. Training uses one of two estimators, detached:

    - `batch`: the batch's own optimum, where the derivative by sigma is zero.
    - `running`: the running average, which the batch has entered. It is quieter for small
      batches, and while errors fall it is a little wide, by as much as they fell over some
      1 / (1 - decay) batches.

    With a decay of 0 the two are one.

    References:
        | Rybkin et al. (2021), section 4.2
        | https://arxiv.org/abs/2006.13202

    Arguments:
        decay: Weight of the past in the running average, in [0, 1). The first batches are
            averaged evenly until their number exceeds 1 / (1 - decay).
        estimator: What training uses, `batch` or `running`.
    """

    decay: float = 0.98
    estimator: Literal["batch", "running"] = "batch"

    needs_optimal_scale: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_decay(self.decay)

    def build(self, shape: tuple[int, int, int]) -> Scale:
        return OptimalScale(self.decay, of_batch=self.estimator == "batch")


class OptimalScale(Scale):
    variance: Tensor
    batches: Tensor

    def __init__(self, decay: float, *, of_batch: bool) -> None:
        super().__init__()
        self.decay = decay
        self.of_batch = of_batch
        self.register_buffer("variance", torch.tensor(1.0))
        self.register_buffer("batches", torch.tensor(0.0))

    def forward(self, x: Tensor, params: Tensor, free: Tensor, likelihood: Likelihood) -> Tensor:
        if self.training:
            log_sigma = soft_lower_bound(likelihood.optimal_log_sigma(x, params.detach()))
            self.batches.add_(1.0)
            share = share_of_newest(self.batches, self.decay)
            self.variance.add_(share * ((2 * log_sigma).exp() - self.variance))
            if self.of_batch:
                return log_sigma
        return 0.5 * self.variance.log()


def check_decay(decay: float) -> None:
    """Refuse a weight of the past with which no average settles."""
    if not 0 <= decay < 1:
        raise ValueError(f"decay must be at least 0 and below 1, got {decay}")


def share_of_newest(batches: Tensor, decay: float) -> Tensor:
    """Weight of the newest of so many batches in their running average."""
    return (1 / batches).clamp(min=1 - decay)
