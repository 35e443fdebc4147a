"""The normalised relative of the Bernoulli for values in [0, 1]."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tune_vae.science.bins import bin_width
from tune_vae.science.likelihoods import Likelihood, Measure

__all__ = ["ContinuousBernoulli"]


@dataclass(frozen=True)
class ContinuousBernoulli(Likelihood):
    r"""Continuous Bernoulli with natural parameter $\eta = \mathrm{logit}\,\lambda$.

    $$ \log p(x) = x \eta - A(\eta),\quad
       A(\eta) = \log \frac{e^{\eta} - 1}{\eta}
               = \max(\eta, 0) + \log \frac{1 - e^{-|\eta|}}{|\eta|} $$

    `torch.distributions.ContinuousBernoulli` clamps its probabilities, so that it has a wrong
    normaliser and no gradient beyond |logit| of about 16 in float32; the form above has neither
    fault.

    References:
        | The continuous Bernoulli (Loaiza-Ganem & Cunningham, 2019)
        | https://arxiv.org/abs/1907.06845

    Example:
        >>> half = torch.full((1, 1), 0.5)
        >>> ContinuousBernoulli().log_prob(half, torch.zeros(1, 1, 1), torch.tensor(0.0))
        tensor([[0.]])
    """

    def measure(self, levels: int | None) -> Measure:
        return Measure.DENSITY

    def log_prob(self, x: Tensor, params: Tensor, log_sigma: Tensor) -> Tensor:
        natural = params[:, 0]
        return x * natural - _log_normaliser(natural)

    def log_mass(
        self, x: Tensor, params: Tensor, log_sigma: Tensor, *, levels: int | None
    ) -> Tensor:
        x, natural = x.double(), params[:, 0].double()
        half = bin_width(levels) / 2
        low, high = (x - half).clamp(min=0), (x + half).clamp(max=1)
        width = high - low
        # Mirror x so that the density falls from 0 to 1: then, with t = |natural|,
        # mass = exp(-t·near) · (1 - exp(-t·width)) / (1 - exp(-t)).
        near = torch.where(natural > 0, 1 - high, low)
        t = natural.abs()
        return -t * near + width.log() + _log_normaliser(-t * width) - _log_normaliser(-t)

    def mean(self, params: Tensor) -> Tensor:
        natural = params[:, 0]
        small = natural.abs() < 0.3
        safe = torch.where(small, 1.0, natural)
        # Bounded, because an infinite exponential has a NaN gradient; e^60 is as good.
        exact = -1 / torch.expm1((-safe).clamp(max=60.0)) - 1 / safe
        square = natural.square()
        series = 0.5 + natural / 12 * (1 - square / 60 * (1 - square / 42 * (1 - square / 40)))
        return torch.where(small, series, exact)

    def sample(self, params: Tensor, log_sigma: Tensor, generator: torch.Generator) -> Tensor:
        natural = params[:, 0]
        uniform = torch.rand(
            natural.shape, generator=generator, device=natural.device, dtype=natural.dtype
        )
        # Inverse distribution function of the falling form, mirrored back where it rises.
        t = natural.abs()
        safe = torch.where(t < 1e-4, 1.0, t)
        falling = -torch.log1p(uniform * torch.expm1(-safe)) / safe
        falling = torch.where(t < 1e-4, uniform, falling)
        return torch.where(natural > 0, 1 - falling, falling)


def _log_normaliser(natural: Tensor) -> Tensor:
    """A(natural), with its Taylor series where the quotient is 0/0."""
    # The series covers 0 itself: there max and |.| have no derivative, though their sum has one.
    small = natural.abs() < 0.05
    safe = torch.where(small, 1.0, natural.abs())
    exact = natural.clamp(min=0) + (-torch.expm1(-safe)).log() - safe.log()
    square = natural.square()
    series = natural / 2 + square / 24 * (1 - square / 120 * (1 - square / 63))
    return torch.where(small, series, exact)
