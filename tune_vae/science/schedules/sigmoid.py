"""S-shaped warm-up."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tune_vae.science.schedules import Schedule

__all__ = ["Sigmoid"]


@dataclass(frozen=True)
class Sigmoid(Schedule):
    r"""Logistic climb over the warm-up, stretched to begin at exactly 0 and end at exactly 1.

    $$ w(t) = \frac{s(u) - s(0)}{s(1) - s(0)},\quad
       s(u) = \frac{1}{1 + e^{-k (u - 1/2)}},\quad u = \min(1, t / \mathrm{warmup}) $$

    The plain logistic never reaches 1; the stretch makes training end on the stated objective
    and changes the curve by less than $e^{-k/2}$.

    References:
        | Generating Sentences from a Continuous Space (Bowman et al., 2015), section 3.1
        | https://arxiv.org/abs/1511.06349

    Arguments:
        warmup: Share of the training spent climbing, in (0, 1].
        steepness: k, positive; 10 climbs mostly in the middle third of the warm-up.

    Example:
        >>> Sigmoid(warmup=0.5).weight(torch.tensor([0.0, 0.25, 0.5, 1.0]))
        tensor([0.0000, 0.5000, 1.0000, 1.0000])
    """

    warmup: float = 0.5
    steepness: float = 10.0

    def __post_init__(self) -> None:
        if not 0 < self.warmup <= 1:
            raise ValueError(f"warmup must be above 0 and at most 1, got {self.warmup}")
        if not 0 < self.steepness <= 100:
            raise ValueError(f"steepness must be above 0 and at most 100, got {self.steepness}")

    def weight(self, progress_T: Tensor) -> Tensor:
        position = (progress_T / self.warmup).clamp(max=1.0)
        # sigmoid(k (u - 1/2)) is (1 + tanh(k (u - 1/2) / 2)) / 2; the stretch cancels the rest.
        half = 0.5 * self.steepness
        top = torch.tanh(torch.tensor(0.5 * half, dtype=progress_T.dtype))
        return (0.5 * (1 + torch.tanh(half * (position - 0.5)) / top)).clamp(0.0, 1.0)
