"""Several warm-ups, one after the other."""

from dataclasses import dataclass

from torch import Tensor

from tune_vae.science.schedules import Schedule

__all__ = ["Cyclical"]


@dataclass(frozen=True)
class Cyclical(Schedule):
    r"""KL weight that climbs from 0 to 1 several times.

    Each cycle rises linearly over its first `ramp`, then holds. The last cycle ends at 1, so
    training always finishes on the stated objective.

    References:
        | Cyclical Annealing Schedule (Fu et al., 2019)
        | https://arxiv.org/abs/1903.10145

    Arguments:
        cycles: Number of climbs over the whole training, at least 1.
        ramp: Share of a cycle spent climbing, in (0, 1].

    Example:
        >>> import torch
        >>> Cyclical(cycles=2, ramp=0.5).weight(torch.tensor([0.0, 0.25, 0.5, 1.0]))
        tensor([0., 1., 0., 1.])
    """

    cycles: int = 4
    ramp: float = 0.5

    def __post_init__(self) -> None:
        if self.cycles < 1:
            raise ValueError(f"cycles must be at least 1, got {self.cycles}")
        if not 0 < self.ramp <= 1:
            raise ValueError(f"ramp must be above 0 and at most 1, got {self.ramp}")

    def weight(self, progress_T: Tensor) -> Tensor:
        position = progress_T * self.cycles
        cycle = position.floor().clamp(max=self.cycles - 1)
        return ((position - cycle) / self.ramp).clamp(max=1.0)
