"""What a decoder says about a pixel: the contract of every likelihood.

Shapes: B batch, P parameters per value, then the axes of one example (C H W for images).
Data x lies in [0, 1]; an image with L levels has the values 0, 1/(L-1), ..., 1.
"""

import enum
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

__all__ = ["Likelihood", "Measure"]


class Measure(enum.StrEnum):
    """What the log-probability of a likelihood is, on given data.

    Only `MASS` can be compared between likelihoods as it stands; `DENSITY` becomes a mass when
    it is integrated over a value's bin; `IMPROPER` is not normalised and compares with nothing.
    """

    MASS = "mass"
    DENSITY = "density"
    IMPROPER = "improper"


class Likelihood(ABC):
    """Contract of a decoder distribution. Implementations are frozen dataclasses.

    Guarantees: all functions work element by element, are differentiable wherever they are
    finite, draw no random numbers but through `generator`, and hold no state, so that they can
    be lifted to many models with `torch.func.vmap`.

    A likelihood of grey levels has their number as its argument `levels`, because training, the
    decoder's width and a checkpoint depend on it. On data of another number of levels it is
    improper, so that a study which would rank it by such a number is refused.

    Attributes:
        has_scale: Whether a sigma mode applies.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}
    has_scale: ClassVar[bool] = False

    @property
    def params_per_value(self) -> int:
        """P, how many numbers the decoder gives for each data value."""
        return 1

    @abstractmethod
    def measure(self, levels: int) -> Measure:
        """What `log_prob` is on data of `levels` levels."""

    @abstractmethod
    def log_prob(self, x: Tensor, params: Tensor, log_sigma: Tensor) -> Tensor:
        """Log-probability that training maximises, in nats, of the shape of `x`.

        Arguments:
            x: Data in [0, 1], shape `B...`.
            params: What the decoder gave, shape `BP...`.
            log_sigma: Logarithm of the scale, broadcastable to `x`; ignored without a scale.
        """

    @abstractmethod
    def log_mass(self, x: Tensor, params: Tensor, log_sigma: Tensor, *, levels: int) -> Tensor:
        """Log-probability of the bin that holds `x` among `levels`, in nats, in float64.

        The masses of all levels sum to 1. A likelihood that is improper on such data answers
        NaN everywhere, because it has no such number.
        """

    @abstractmethod
    def mean(self, params: Tensor) -> Tensor:
        """Expected value, shape `B...`, in the units of `x`.

        For a likelihood of levels with a scale it is the mean before values beyond 0 and 1 are
        counted to the first and the last level.
        """

    @abstractmethod
    def sample(self, params: Tensor, log_sigma: Tensor, generator: torch.Generator) -> Tensor:
        """One draw per value, shape `B...`."""

    def optimal_log_sigma(self, x: Tensor, params: Tensor) -> Tensor:
        """Logarithm of the one scale under which `x` is most probable, a scalar.

        Where that has no closed form, of a stated estimate of it.
        """
        raise NotImplementedError(f"{type(self).__name__} has no scale")
