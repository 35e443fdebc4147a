"""Laplace distribution around the decoder's output."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tune_vae.science.bins import laplace_log_mass
from tune_vae.science.likelihoods import Likelihood, Measure
from tune_vae.science.links import Link, linked

__all__ = ["Laplace"]


@dataclass(frozen=True)
class Laplace(Likelihood):
    r"""Laplace distribution of each value, whose scale b is the exponential of log sigma.

    $$ \log p(x) = -\frac{|x - \mu|}{b} - \log 2b $$

    Training minimises the absolute error, so that a few values far off count for less than with
    a Gaussian. The scale that makes a batch most probable is its mean absolute error; the
    standard deviation is $\sqrt 2\, b$.

    References:
        | Johnson, Kotz & Balakrishnan, Continuous Univariate Distributions 2 (1995), chapter 24

    Arguments:
        link: How the decoder's output becomes the mean: `sigmoid` keeps it in (0, 1),
            `identity` leaves it as it is.

    Example:
        >>> Laplace().log_prob(torch.ones(1, 1), torch.zeros(1, 1, 1), torch.tensor(0.0))
        tensor([[-1.1931]])
    """

    link: Link = "sigmoid"

    has_scale: ClassVar[bool] = True

    def measure(self, levels: int | None) -> Measure:
        return Measure.DENSITY

    def log_prob(self, x: Tensor, params: Tensor, log_sigma: Tensor) -> Tensor:
        distance = (x - self.mean(params)).abs()
        return -distance * (-log_sigma).exp() - log_sigma - math.log(2.0)

    def log_mass(
        self, x: Tensor, params: Tensor, log_sigma: Tensor, *, levels: int | None
    ) -> Tensor:
        mean = self.mean(params).double()
        return laplace_log_mass(x.double(), mean, log_sigma.double(), levels=levels)

    def mean(self, params: Tensor) -> Tensor:
        return linked(params[:, 0], self.link)

    def sample(self, params: Tensor, log_sigma: Tensor, generator: torch.Generator) -> Tensor:
        mean = self.mean(params)
        one = torch.empty_like(mean).exponential_(generator=generator)
        other = torch.empty_like(mean).exponential_(generator=generator)
        return mean + log_sigma.exp() * (one - other)

    def optimal_log_sigma(self, x: Tensor, params: Tensor) -> Tensor:
        return (x - self.mean(params)).abs().mean().log()
