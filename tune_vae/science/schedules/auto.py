"""Warm-up whose length follows from that of the training."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from tune_vae.science.schedules import Schedule
from tune_vae.science.schedules.cosine import Cosine
from tune_vae.science.schedules.linear import Linear
from tune_vae.science.schedules.sigmoid import Sigmoid

__all__ = ["Auto"]

SHAPES: dict[str, Callable[..., Schedule]] = {
    "linear": Linear,
    "sigmoid": Sigmoid,
    "cosine": Cosine,
}
LEAST, MOST = 0.1, 0.5


@dataclass(frozen=True)
class Auto(Schedule):
    """Warm-up of so many optimiser steps, but at least 10 % and at most 50 % of the training.

    Whether a latent is used is decided in optimiser steps, not in epochs: trials that turn out
    healthy stay near a rate of 0 for some 200 steps, until the decoder has learned to use their
    latents, and a KL term at its full weight may keep them there. So a warm-up is a number of
    steps. A short training still keeps half of its steps for the stated objective, since only
    there its numbers can be compared; a long one gives a tenth of itself, which is the share of
    Sønderby et al. (200 of 2000 epochs).

    References:
        | Ladder Variational Autoencoders (Sønderby et al., 2016)
        | https://arxiv.org/abs/1602.02282
        | Generating Sentences from a Continuous Space (Bowman et al., 2015), section 3.1
        | https://arxiv.org/abs/1511.06349

    Arguments:
        steps: Optimiser steps of the warm-up, at least 1.
        shape: Of the climb: that of the schedule `linear`, `sigmoid` or `cosine`.

    Example:
        >>> [Auto().for_steps(steps).warmup for steps in (500, 4000, 100_000)]
        [0.5, 0.25, 0.1]
    """

    steps: int = 1000
    shape: Literal["linear", "sigmoid", "cosine"] = "linear"

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")
        if self.shape not in SHAPES:
            raise ValueError(f"shape must be linear, sigmoid or cosine, got {self.shape}")

    def for_steps(self, steps: int) -> Schedule:
        return SHAPES[self.shape](warmup=min(max(self.steps / steps, LEAST), MOST))

    def weight(self, progress_T: Tensor) -> Tensor:
        """As in a training that is no longer than the warm-up."""
        return self.for_steps(self.steps).weight(progress_T)
