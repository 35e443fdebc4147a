"""What a decoder says about a pixel: the contract of every likelihood.

Shapes: B batch, P parameters per value, then the axes of one example (C H W for images).
Data x of L levels lies in [0, 1], with the values 0, 1/(L-1), ..., 1; counts are 0, 1, 2, ...
"""

import enum
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

__all__ = ["Domain", "Likelihood", "Measure"]


class Domain(enum.StrEnum):
    """What the values of a data set are."""

    BINARY = "binary values"
    LEVELS = "grey levels"
    COUNTS = "counts"

    @classmethod
    def of(cls, levels: int | None) -> "Domain":
        """Of data with this number of levels; None for counts."""
        if levels is None:
            return cls.COUNTS
        return cls.BINARY if levels == 2 else cls.LEVELS


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

    Guarantees: all functions but `conditioned` work element by element, are differentiable
    wherever they are finite, draw no random numbers but through `generator`, and hold no state,
    so that they can be lifted to many models with `torch.func.vmap`.

    A likelihood of grey levels has their number as its argument `levels`, because training, the
    decoder's width and a checkpoint depend on it. On data of another number of levels it is
    improper, so that a study which would rank it by such a number is refused.

    Attributes:
        has_scale: Whether a sigma mode applies.
        has_optimal_scale: Whether `optimal_log_sigma` exists; by default if there is a scale.
        domains: Data it is made for; others are refused.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}
    has_scale: ClassVar[bool] = False
    has_optimal_scale: ClassVar[bool] = True
    domains: ClassVar[frozenset[Domain]] = frozenset({Domain.BINARY, Domain.LEVELS})

    def misfit(self, levels: int | None) -> str:
        """Why it cannot be used on data of `levels` levels; empty if it can."""
        given = Domain.of(levels)
        if given in self.domains:
            return ""
        wanted = " or ".join(sorted(domain.value for domain in self.domains))
        name = f"{levels} {given.value}" if given is Domain.LEVELS else given.value
        return f"it is a distribution of {wanted}, and the data are {name}"

    @property
    def params_per_value(self) -> int:
        """P, how many numbers the decoder gives for each data value."""
        return 1

    @abstractmethod
    def measure(self, levels: int | None) -> Measure:
        """What `log_prob` is on data of `levels` levels; None for counts."""

    def features(self, x: Tensor) -> Tensor:
        """What the encoder sees of `x`, of the same shape."""
        return x

    def conditioned(self, params: Tensor, x: Tensor | None) -> Tensor:
        """The decoder's output as parameters for examples of which something is known.

        Counts are told how many there are in all, which the latent need not carry.

        Arguments:
            params: What the decoder gave, shape `BP...`.
            x: The examples; None when they are to be imagined.
        """
        return params

    @abstractmethod
    def log_prob(self, x: Tensor, params: Tensor, log_sigma: Tensor) -> Tensor:
        """Log-probability that training maximises, in nats, of the shape of `x`.

        Arguments:
            x: Data, shape `B...`.
            params: What the decoder gave, `conditioned` on the data, shape `BP...`.
            log_sigma: Logarithm of the scale, broadcastable to `x`; ignored without a scale.
        """

    def log_mass(
        self, x: Tensor, params: Tensor, log_sigma: Tensor, *, levels: int | None
    ) -> Tensor:
        """Log-probability of the bin that holds `x` among `levels`, in nats, in float64.

        The masses of all levels, or of all counts, sum to 1. A likelihood that is improper on
        such data answers NaN everywhere, because it has no such number; one whose `log_prob` is
        a density integrates it here.
        """
        if self.measure(levels) is not Measure.MASS:
            return torch.full_like(x, torch.nan, dtype=torch.float64)
        return self.log_prob(x.double(), params.double(), log_sigma.double())

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
        raise NotImplementedError(f"{type(self).__name__} has no optimal scale")
