"""Beta distribution around the decoder's output."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from tune_vae.science.bins import bin_width, check_levels, gauss_legendre
from tune_vae.science.likelihoods import Likelihood, Measure
from tune_vae.science.saddlepoint import deviance, digamma_gap, stirling_remainder

__all__ = ["Beta"]


@dataclass(frozen=True)
class Beta(Likelihood):
    r"""Beta distribution of each value, with a concentration φ from the sigma mode.

    $$ \log p(t) = (\phi\mu - 1) \log t + (\phi(1 - \mu) - 1) \log(1 - t)
                 - \log \mathrm{B}(\phi\mu, \phi(1 - \mu)),\quad \phi = \sigma^{-2} $$

    The mean µ is the sigmoid of the decoder's output, and the variance of t is
    $\mu(1 - \mu)\,\sigma^2 / (1 + \sigma^2)$: a small σ is the standard deviation in units of
    that of a coin flip, a large one leaves little between black and white.

    At t = 0 and 1 the density is 0 or infinite. So it is spread over the bins of all levels, from
    $-h$ to $1 + h$ with $h = 1/(2(L - 1))$, of which a value x is the centre of its own:

    $$ t = \frac{x + h}{1 + 2h} = \frac{x (L - 1) + 1/2}{L},\quad
       p(x) = \frac{p(t)}{1 + 2h} $$

    The most probable scale of a batch satisfies $\sigma^2 = K / g(\sigma)$ with K the mean
    divergence of t from µ, and g between 1/2 and 1 that hardly moves; it is found by 8
    repetitions to 1e-6 of its logarithm.

    References:
        | Beta Regression for Modelling Rates and Proportions (Ferrari & Cribari-Neto, 2004)
        | https://doi.org/10.1080/0266476042000214501
        | A Better Lemon Squeezer? (Smithson & Verkuilen, 2006), for t
        | https://doi.org/10.1037/1082-989X.11.1.54

    Arguments:
        levels: L, number of grey levels of the data, at least 2.

    Example:
        >>> x = torch.tensor([[0.0, 0.5, 1.0]])
        >>> Beta(levels=3).log_prob(x, torch.zeros(1, 1, 3), torch.tensor(-1.0)).exp()
        tensor([[0.2868, 1.3980, 0.2868]])
    """

    levels: int = 256

    has_scale: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_levels(self.levels)

    def measure(self, levels: int | None) -> Measure:
        return Measure.DENSITY if levels == self.levels else Measure.IMPROPER

    def log_prob(self, x: Tensor, params: Tensor, log_sigma: Tensor) -> Tensor:
        t, rest = self._shares(x)
        density = _log_density_of_logit(t, rest, params[:, 0], -2 * log_sigma)
        return density - (t * rest).log() - math.log(self._span)

    def log_mass(
        self, x: Tensor, params: Tensor, log_sigma: Tensor, *, levels: int | None
    ) -> Tensor:
        if levels != self.levels:
            return torch.full_like(x, torch.nan, dtype=torch.float64)
        level = (x.double() * (levels - 1)).round()
        return _log_mass(level, params[:, 0].double(), -2 * log_sigma.double(), levels=levels)

    def mean(self, params: Tensor) -> Tensor:
        return self._value(params[:, 0].sigmoid())

    def sample(self, params: Tensor, log_sigma: Tensor, generator: torch.Generator) -> Tensor:
        logit = params[:, 0]
        # Of two gamma variables the share of one; in logarithms, because both may underflow.
        one = _log_gamma_draw(logsigmoid(logit) - 2 * log_sigma, generator)
        other = _log_gamma_draw(logsigmoid(-logit) - 2 * log_sigma, generator)
        return self._value((one - other).sigmoid())

    def optimal_log_sigma(self, x: Tensor, params: Tensor) -> Tensor:
        log_mu, log_nu = logsigmoid(params[:, 0]), logsigmoid(-params[:, 0])
        # A floor, where all values are met exactly.
        log_apart = _divergence(*self._shares(x), log_mu, log_nu).mean().clamp(min=1e-30).log()
        log_phi = -math.log(2.0) - log_apart
        for _ in range(8):
            log_z = (log_phi + log_mu, log_phi + log_nu, log_phi)
            of_a, of_b, of_phi = (digamma_gap(one.exp(), one) for one in log_z)
            log_phi = ((of_a + of_b).mean() - of_phi).log() - log_apart
        return -0.5 * log_phi

    @property
    def _span(self) -> float:
        """Width of all bins together, 1 + 2h."""
        return 1 + bin_width(self.levels)

    def _shares(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """T and 1 - t, each with all its digits."""
        half = bin_width(self.levels) / 2
        return (x + half) / self._span, (1 - x + half) / self._span

    def _value(self, t: Tensor) -> Tensor:
        return t * self._span - bin_width(self.levels) / 2


def _divergence(t: Tensor, rest: Tensor, log_mu: Tensor, log_nu: Tensor) -> Tensor:
    """Of a coin flip of chance t from one of chance µ, nats; `rest` is 1 - t and ν is 1 - µ."""
    # A sigmoid has the same value as this exponential, but close to 1 a slope of 0.
    mu, nu = log_mu.exp(), log_nu.exp()
    apart = deviance(mu, t, excess=mu - t, log_ratio=log_mu - t.log())
    return apart + deviance(nu, rest, excess=nu - rest, log_ratio=log_nu - rest.log())


def _log_density_of_logit(t: Tensor, rest: Tensor, logit: Tensor, log_phi: Tensor) -> Tensor:
    """Log-density of logit(t), which has its mode at `logit` and no poles; `rest` is 1 - t."""
    log_mu, log_nu = logsigmoid(logit), logsigmoid(-logit)
    log_a, log_b = log_phi + log_mu, log_phi + log_nu
    log_mode = (
        0.5 * (log_a + log_nu - math.log(2 * math.pi))
        + stirling_remainder(log_phi.exp(), log_phi)
        - stirling_remainder(log_a.exp(), log_a)
        - stirling_remainder(log_b.exp(), log_b)
    )
    return log_mode - log_phi.exp() * _divergence(t, rest, log_mu, log_nu)


def _log_gamma_draw(log_shape: Tensor, generator: torch.Generator) -> Tensor:
    """Logarithm of a gamma variable, of a shape parameter however small.

    The power 1/shape of a uniform variable takes it from shape + 1 to shape.
    """
    shape = log_shape.exp().clamp(min=torch.finfo(log_shape.dtype).tiny)
    # The sampler of `torch.distributions.Gamma`, which itself takes no generator.
    above = torch._standard_gamma(shape + 1, generator=generator)
    return above.log() - torch.empty_like(shape).exponential_(generator=generator) / shape


def _log_mass(level: Tensor, logit: Tensor, log_phi: Tensor, *, levels: int) -> Tensor:
    r"""Logarithm of the integral of the density over a level's bin, float64.

    In terms of $y = \mathrm{logit}\,t$ the integrand, $e^{a y} (1 + e^y)^{-\phi}$ with
    $a = \phi\mu$, is log-concave and as smooth as can be, so that a Gaussian quadrature over
    what is not negligible of it is exact. Only the first bin has no end on the left. There, as
    soon as $\phi e^y$ is below 1, a series takes over, all of whose terms are positive:

    $$ I_x(a, b) = \frac{x^a (1 - x)^b}{a \mathrm{B}(a, b)}
                   \sum_n \frac{\phi (\phi + 1) \cdots (\phi + n - 1)}{(a + 1) \cdots (a + n)} x^n,
       \quad x = e^y / (1 + e^y) $$

    References:
        | NIST Digital Library of Mathematical Functions, equation 8.17.8
        | https://dlmf.nist.gov/8.17.E8
    """
    # Mirrored, so that only bins below 1/2 are left.
    upper = level > 0.5 * (levels - 1)
    level = torch.where(upper, levels - 1 - level, level)
    logit = torch.where(upper, -logit, logit)
    phi, mu, first = log_phi.exp(), logit.sigmoid(), level == 0

    end = (level + 1).log() - (levels - 1 - level).log()
    joint = torch.minimum(end, (-1 - log_phi).clamp(max=-3.0))
    begin = torch.where(first, joint, level.clamp(min=1).log() - (levels - level).log())
    top = torch.maximum(begin, torch.minimum(logit, end))
    # As `_divergence` has it, so that where they meet there is none.
    t, rest = logsigmoid(top).exp(), logsigmoid(-top).exp()
    log_top = _log_density_of_logit(t, rest, logit, log_phi)

    def fall(distance: Tensor) -> Tensor:
        """How far the log-density lies below its highest value, at a distance from there."""
        return phi * (torch.log1p(t * torch.expm1(distance)) - mu * distance)

    left = _reach(lambda distance: fall(-distance), top - begin)
    right = _reach(fall, end - top)
    middle, half = 0.5 * (right - left), 0.5 * (right + left)
    mean = gauss_legendre(lambda u: torch.exp(-fall(middle + u * half)), points=36)
    inside = log_top + (2 * half * mean).log()

    term = series = torch.ones_like(inside)
    for n in range(20):
        term = term * joint.sigmoid() * (phi + n) / (phi * mu + 1 + n)
        series = series + term
    log_a = log_phi + logsigmoid(logit)
    tail = log_top - fall(joint - top) - log_a + series.log()
    # A sum of many parts may exceed 1 by a rounding.
    return torch.where(first, torch.logaddexp(inside, tail), inside).clamp(max=0)


def _reach(fall: Callable[[Tensor], Tensor], farthest: Tensor) -> Tensor:
    """Distance, at most `farthest`, at which an integrand has fallen by 30 nats, to 15 %."""
    high = farthest.clamp(min=1e-300).log()
    low = high - 35
    for _ in range(8):
        middle = 0.5 * (low + high)
        enough = fall(middle.exp()) > 30
        low, high = torch.where(enough, low, middle), torch.where(enough, middle, high)
    return high.exp()
