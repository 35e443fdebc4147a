"""Student's t-distribution around the decoder's output."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tune_vae.science.bins import gauss_legendre, log1mexp, log_mass_of_bins, log_of_share
from tune_vae.science.likelihoods import Likelihood, Measure
from tune_vae.science.links import Link, linked

__all__ = ["StudentT"]


@dataclass(frozen=True)
class StudentT(Likelihood):
    r"""Student's t-distribution of each value, whose scale s is the exponential of log sigma.

    $$ \log p(x) = \log \frac{\Gamma(\frac{\nu + 1}{2})}{\Gamma(\frac{\nu}{2}) \sqrt{\pi \nu}}
                   - \frac{\nu + 1}{2} \log\left(1 + \frac{(x - \mu)^2}{\nu s^2}\right) - \log s $$

    Between a Cauchy distribution ($\nu = 1$) and a Gaussian ($\nu \to \infty$). A value far off
    counts with the logarithm of its distance, so that it hardly moves the scale.

    The most probable scale of a batch has no closed form; it is found by bisection to 1e-6 of
    its logarithm, which passes over the batch 26 times.

    References:
        | Robust Statistical Modeling Using the t Distribution (Lange et al., 1989)
        | https://doi.org/10.1080/01621459.1989.10478852

    Arguments:
        degrees: Degrees of freedom ν, above 1, so that there is a mean, and at most 100.
        link: How the decoder's output becomes the mean: `sigmoid` keeps it in (0, 1),
            `identity` leaves it as it is.

    Example:
        >>> StudentT().log_prob(torch.full((1, 1), 0.5), torch.zeros(1, 1, 1), torch.tensor(0.0))
        tensor([[-0.9808]])
    """

    degrees: float = 4.0
    link: Link = "sigmoid"

    has_scale: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 1 < self.degrees <= 100:
            raise ValueError(f"degrees must be above 1 and at most 100, got {self.degrees}")

    def measure(self, levels: int | None) -> Measure:
        return Measure.DENSITY

    def log_prob(self, x: Tensor, params: Tensor, log_sigma: Tensor) -> Tensor:
        standardised = (x - self.mean(params)) * (-log_sigma).exp()
        return self._log_density(standardised) - log_sigma

    def log_mass(
        self, x: Tensor, params: Tensor, log_sigma: Tensor, *, levels: int | None
    ) -> Tensor:
        mean = self.mean(params).double()
        return log_mass_of_bins(
            x.double(), mean, log_sigma.double(), levels, self._log_tail, self._log_inside
        )

    def mean(self, params: Tensor) -> Tensor:
        return linked(params[:, 0], self.link)

    def sample(self, params: Tensor, log_sigma: Tensor, generator: torch.Generator) -> Tensor:
        mean = self.mean(params)
        radius, turn = (
            torch.rand(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
            for _ in range(2)
        )
        # The polar method of Bailey (1994), https://doi.org/10.2307/2153537; 1 - radius, because
        # a draw may be 0.
        square = self.degrees * torch.expm1(-2 / self.degrees * torch.log1p(-radius))
        return mean + log_sigma.exp() * square.sqrt() * torch.cos(2 * math.pi * turn)

    def optimal_log_sigma(self, x: Tensor, params: Tensor) -> Tensor:
        nu = self.degrees
        square = (x - self.mean(params)).square()
        # The bound of the scale above; and a floor, where all values are met exactly.
        high = 0.5 * ((1 + 1 / nu) * square.mean()).clamp(min=1e-30).log()
        low = high - 20
        log_ratio = (square / nu).clamp(min=1e-37).log()
        for _ in range(26):
            middle = 0.5 * (low + high)
            too_small = (nu + 1) * (log_ratio - 2 * middle).sigmoid().mean() > 1
            low, high = torch.where(too_small, middle, low), torch.where(too_small, high, middle)
        return 0.5 * (low + high)

    def _log_density(self, z: Tensor) -> Tensor:
        nu = self.degrees
        norm = math.lgamma(0.5 * (nu + 1)) - math.lgamma(0.5 * nu) - 0.5 * math.log(math.pi * nu)
        return norm - 0.5 * (nu + 1) * torch.log1p(z.square() / nu)

    def _log_tail(self, z: Tensor) -> Tensor:
        r"""Logarithm of P(T > z), by the continued fraction of the incomplete beta function.

        $$ P(|T| > |z|) = I_y(\tfrac\nu2, \tfrac12) = 1 - I_{1-y}(\tfrac12, \tfrac\nu2),\quad
           y = \nu / (\nu + z^2) $$
        """
        a, b = 0.5 * self.degrees, 0.5
        log_y = -torch.log1p(z.square() / self.degrees)
        y = log_y.exp()
        # The fraction converges fast on one side of the distribution's bulk.
        far = y < (a + 1) / (a + b + 2)
        rest = z.square() / self.degrees * y
        fraction = _beta_fraction(
            torch.where(far, a, b), torch.where(far, b, a), torch.where(far, y, rest)
        )
        norm = math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
        log_rest = torch.where(far, rest, 1.0).log()
        beyond = a * log_y + b * log_rest + fraction.log() - math.log(2 * a) - norm
        within = (torch.where(far, 0.0, rest)).sqrt() * (a * log_y - norm).exp() * fraction / b
        right = torch.where(far, beyond, torch.log1p(-within) - math.log(2.0))
        return torch.where(z < 0, torch.log1p(-right.exp()), right)

    def _log_inside(self, c: Tensor, d: Tensor, log_d: Tensor) -> Tensor:
        nu = self.degrees
        narrow = d * (nu + 1) < 0.25 * (nu + c.square()).sqrt()
        around = (c < d) & ~narrow
        density = self._log_density(c)
        half = torch.where(narrow, d, 0.0)
        shape = gauss_legendre(lambda u: (self._log_density(c + u * half) - density).exp())
        log_narrow = math.log(2.0) + log_d + density + shape.log()

        begin, end = self._log_tail((c - d).abs()), self._log_tail(c + d)
        outside = begin.exp() + end.exp()
        log_around = log_of_share(1 - outside, outside)
        t = torch.where(narrow | around, 1.0, begin - end)
        log_beside = begin + log1mexp(t, t.log())
        return torch.where(narrow, log_narrow, torch.where(around, log_around, log_beside))


def _beta_fraction(a: Tensor, b: Tensor, y: Tensor) -> Tensor:
    """Continued fraction of I_y(a, b) by Lentz's method; 30 terms reach float64 to a = 50."""
    ratio = torch.ones_like(y)
    inverse = 1 / (1 - (a + b) * y / (a + 1))
    value = inverse
    for m in range(1, 31):
        even = m * (b - m) * y / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * y / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            inverse, ratio = 1 / (1 + term * inverse), 1 + term / ratio
            value = value * inverse * ratio
    return value
