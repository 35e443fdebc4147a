"""No warm-up."""

from dataclasses import dataclass

from torch import Tensor

from tune_vae.science.schedules import Schedule

__all__ = ["Constant"]


@dataclass(frozen=True)
class Constant(Schedule):
    """KL weight 1 from the first step.

    Example:
        >>> import torch
        >>> Constant().weight(torch.tensor([0.0, 0.5, 1.0]))
        tensor([1., 1., 1.])
    """

    def weight(self, progress_T: Tensor) -> Tensor:
        return progress_T.new_ones(progress_T.shape)
