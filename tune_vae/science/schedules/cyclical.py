"""Several warm-ups, one after the other."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from tune_vae.science.schedules import Schedule
from tune_vae.science.schedules.cosine import Cosine
from tune_vae.science.schedules.sigmoid import Sigmoid

__all__ = ["Cyclical"]


@dataclass(frozen=True)
class Cyclical(Schedule):
    r"""KL weight that climbs from 0 to 1 several times.

    Each cycle rises over its first `ramp`, then holds. The last cycle ends at 1, so
    training always finishes on the stated objective.

    References:
        | Cyclical Annealing Schedule (Fu et al., 2019)
        | https://arxiv.org/abs/1903.10145

    Arguments:
        cycles: Number of climbs over the whole training, at least 1.
        ramp: Share of a cycle spent climbing, in (0, 1].
        shape: Of a climb: `linear`, or that of the schedule `sigmoid` or `cosine`.

    Example:
        >>> import torch
        >>> Cyclical(cycles=2, ramp=0.5).weight(torch.tensor([0.0, 0.25, 0.5, 1.0]))
        tensor([0., 1., 0., 1.])
    """

    cycles: int = 4
    ramp: float = 0.5
    shape: Literal["linear", "sigmoid", "cosine"] = "linear"

    def __post_init__(self) -> None:
        if self.cycles < 1:
            raise ValueError(f"cycles must be at least 1, got {self.cycles}")
        if not 0 < self.ramp <= 1:
            raise ValueError(f"ramp must be above 0 and at most 1, got {self.ramp}")
        if self.shape not in ("linear", "sigmoid", "cosine"):
            raise ValueError(f"shape must be linear, sigmoid or cosine, got {self.shape}")

    def weight(self, progress_T: Tensor) -> Tensor:
        position = progress_T * self.cycles
        cycle = position.floor().clamp(max=self.cycles - 1)
        climb = ((position - cycle) / self.ramp).clamp(max=1.0)
        if self.shape == "sigmoid":
            return Sigmoid(warmup=1.0).weight(climb)
        if self.shape == "cosine":
            return Cosine(warmup=1.0).weight(climb)
        return climb
