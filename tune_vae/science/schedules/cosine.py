"""Warm-up along half a cosine."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tune_vae.science.schedules import Schedule

__all__ = ["Cosine"]


@dataclass(frozen=True)
class Cosine(Schedule):
    r"""Half a cosine from 0 to 1 over the warm-up, then constant.

    $$ w(t) = \tfrac12 (1 - \cos \pi u),\quad u = \min(1, t / \mathrm{warmup}) $$

    It sets out from 0 and arrives at 1 without a bend.

    References:
        | Cyclical Annealing Schedule (Fu et al., 2019), whose code offers it beside the line
        | https://arxiv.org/abs/1903.10145

    Arguments:
        warmup: Share of the training spent climbing, in (0, 1].

    Example:
        >>> Cosine(warmup=0.5).weight(torch.tensor([0.0, 0.125, 0.25, 0.5, 1.0]))
        tensor([0.0000, 0.1464, 0.5000, 1.0000, 1.0000])
    """

    warmup: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.warmup <= 1:
            raise ValueError(f"warmup must be above 0 and at most 1, got {self.warmup}")

    def weight(self, progress_T: Tensor) -> Tensor:
        position = (progress_T / self.warmup).clamp(max=1.0)
        # (1 - cos πu) / 2 without its cancellation near 0.
        climbing = torch.sin(0.5 * math.pi * position).square()
        # A sine may round to just below 1 at the end, where the weight must be 1.
        return torch.where(position < 1, climbing, 1.0)
