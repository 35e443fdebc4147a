"""Sigma modes with which a training loses its loss for real, and at a step that is known."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tune_vae.science.likelihoods import Likelihood
from tune_vae.science.sigmas import Scale, Sigma

__all__ = ["LostAt", "RawVariance"]


@dataclass(frozen=True)
class RawVariance(Sigma):
    """The mistake that everybody makes once: the variance is a weight, and not its logarithm.

    A step that is longer than what is left of the variance takes it below 0, from where no loss is
    finite. At a lower learning rate it settles.

    Arguments:
        start: Variance before training.
        gain: How far it moves in units of the learning rate.
    """

    start: float = 1.0
    gain: float = 10.0

    def build(self, shape: tuple[int, int, int]) -> Scale:
        return _RawScale(self.start, self.gain)


class _RawScale(Scale):
    def __init__(self, start: float, gain: float) -> None:
        super().__init__()
        self.gain = gain
        self.weight = nn.Parameter(torch.tensor(start / gain))

    def forward(self, x: Tensor, params: Tensor, free: Tensor, likelihood: Likelihood) -> Tensor:
        return 0.5 * (self.gain * self.weight).log()


@dataclass(frozen=True)
class LostAt(Sigma):
    """Counts the steps of training, and has no value from one of them on.

    Arguments:
        step: The first without, from 1.
    """

    step: int

    def build(self, shape: tuple[int, int, int]) -> Scale:
        return _CountingScale(self.step)

    def pack_key(self) -> object:
        return LostAt


class _CountingScale(Scale):
    def __init__(self, step: int) -> None:
        super().__init__()
        self.register_buffer("steps", torch.tensor(0.0))
        self.register_buffer("lost", torch.tensor(float(step)))

    def forward(self, x: Tensor, params: Tensor, free: Tensor, likelihood: Likelihood) -> Tensor:
        if self.training:
            self.steps.add_(1)
        return torch.where(self.steps < self.lost, -1.0, torch.nan)
