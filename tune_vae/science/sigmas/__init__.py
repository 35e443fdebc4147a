"""How the scale of a decoder distribution is set: the contract of every sigma mode."""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn
from torch.nn.functional import softplus

from tune_vae.science.likelihoods import Likelihood

__all__ = ["Scale", "Sigma", "soft_lower_bound"]


class Scale(nn.Module, ABC):
    """The part of a VAE that gives log sigma. State that is not learned lives in buffers.

    In training mode it may look at the batch and update its buffers in place; in evaluation
    mode it does neither, so that no score fits a scale to the data it scores.
    """

    @abstractmethod
    def forward(self, x: Tensor, params: Tensor, likelihood: Likelihood) -> Tensor:
        """Logarithm of the scale, broadcastable to `x`."""


class Sigma(ABC):
    """Contract of a sigma mode. Implementations are frozen dataclasses."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    @abstractmethod
    def build(self, shape: tuple[int, int, int]) -> Scale:
        """A fresh scale for images of C, H, W, the same on every call."""

    def pack_key(self) -> object:
        """What must be equal for two trials to train in one pack.

        A mode whose arguments are only numbers in buffers says so by answering its class.
        """
        return self


def soft_lower_bound(log_sigma: Tensor, low: float = -6.0) -> Tensor:
    r"""Smooth lower bound $l + \log(1 + e^{s - l})$, which keeps a gradient below the bound.

    References:
        | Rybkin et al. (2021), appendix: "softclip"
        | https://arxiv.org/abs/2006.13202
    """
    return low + softplus(log_sigma - low)
