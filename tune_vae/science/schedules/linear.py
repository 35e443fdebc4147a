"""Straight warm-up."""

from dataclasses import dataclass

from torch import Tensor

from tune_vae.science.schedules import Schedule

__all__ = ["Linear"]


@dataclass(frozen=True)
class Linear(Schedule):
    r"""KL weight $\min(1, t / \mathrm{warmup})$.

    References:
        | Ladder Variational Autoencoders (Sønderby et al., 2016), section 3
        | https://arxiv.org/abs/1602.02282

    Arguments:
        warmup: Share of the training spent climbing, in (0, 1].

    Example:
        >>> import torch
        >>> Linear(warmup=0.5).weight(torch.tensor([0.0, 0.25, 0.5, 1.0]))
        tensor([0.0000, 0.5000, 1.0000, 1.0000])
    """

    warmup: float = 0.25

    def __post_init__(self) -> None:
        if not 0 < self.warmup <= 1:
            raise ValueError(f"warmup must be above 0 and at most 1, got {self.warmup}")

    def weight(self, progress_T: Tensor) -> Tensor:
        return (progress_T / self.warmup).clamp(max=1.0)
