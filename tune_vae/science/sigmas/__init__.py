"""How the scale of a decoder distribution is set: the contract of every sigma mode."""

import math
from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn
from torch.nn.functional import softplus

from tune_vae.science.likelihoods import Likelihood

__all__ = ["LOWEST", "Scale", "Sigma", "check_positive", "soft_bounds", "soft_lower_bound"]

LOWEST = -6.0
"""Log sigma of a scale that is fitted or learned stays above this, a quarter of a percent of the
range of images."""


class Scale(nn.Module, ABC):
    """The part of a VAE that gives log sigma. State that is not learned lives in buffers.

    In training mode it may look at the batch and update its buffers in place; in evaluation
    mode it does neither, so that no score fits a scale to the data it scores, unless it states
    in `code_nats` what the decoder must be told of it.
    """

    @abstractmethod
    def forward(self, x: Tensor, params: Tensor, free: Tensor, likelihood: Likelihood) -> Tensor:
        """Logarithm of the scale, broadcastable to `x`.

        Arguments:
            x: Data, shape `BCHW`.
            params: The likelihood's parameters, shape `BPCHW`.
            free: What the decoder gave beside them, `[B, S, C, H, W]` with S the mode's
                `params_per_value`.
            likelihood: The decoder distribution.
        """

    def code_nats(self, log_sigma: Tensor) -> Tensor:
        """Nats that it takes to state `log_sigma`, broadcastable to `B`.

        0 for a scale that the decoder knows without being told.
        """
        return log_sigma.new_zeros(())


class Sigma(ABC):
    """Contract of a sigma mode. Implementations are frozen dataclasses."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}
    params_per_value: ClassVar[int] = 0
    """S, how many numbers it takes of the decoder for each data value."""

    needs_optimal_scale: ClassVar[bool] = False
    """Whether it asks the likelihood for its most probable scale."""

    @abstractmethod
    def build(self, shape: tuple[int, int, int]) -> Scale:
        """A fresh scale for images of C, H, W, the same on every call."""

    def pack_key(self) -> object:
        """What must be equal for two trials to train in one pack.

        A mode whose arguments are only numbers in buffers says so by answering its class.
        """
        return self


def check_positive(name: str, value: float) -> None:
    """Refuse a scale whose logarithm is not finite."""
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be positive and finite, got {value}")


def soft_lower_bound(log_sigma: Tensor, low: float = LOWEST) -> Tensor:
    r"""Smooth lower bound $l + \log(1 + e^{s - l})$, which keeps a gradient below the bound.

    References:
        | Rybkin et al. (2021), appendix: "softclip"
        | https://arxiv.org/abs/2006.13202
    """
    return low + softplus(log_sigma - low)


def soft_bounds(log_sigma: Tensor) -> Tensor:
    """The smooth bound from both sides, at -6 and 6; at 0 its two errors cancel."""
    return soft_lower_bound(-soft_lower_bound(-log_sigma))
