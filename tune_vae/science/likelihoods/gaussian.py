"""Normal distribution around the decoder's output."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from tune_vae.science.likelihoods import Likelihood, Measure

__all__ = ["Gaussian", "discretized_log_mass"]


@dataclass(frozen=True)
class Gaussian(Likelihood):
    r"""Normal distribution of each value, with one scale from the sigma mode.

    $$ \log p(x) = -\tfrac12 \left(\frac{x - \mu}{\sigma}\right)^2
                   - \log \sigma - \tfrac12 \log 2\pi $$

    The scale that makes a batch most probable is the root of its mean squared error (the paper's
    equation 11 omits the square, as its authors confirmed).

    References:
        | Simple and Effective VAE Training with Calibrated Decoders (Rybkin et al., 2021)
        | https://arxiv.org/abs/2006.13202

    Arguments:
        link: How the decoder's output becomes the mean: `sigmoid` keeps it in (0, 1),
            `identity` leaves it as it is.

    Example:
        >>> x = torch.tensor([[0.5]])
        >>> Gaussian().log_prob(x, torch.zeros(1, 1, 1), torch.tensor(0.0))
        tensor([[-0.9189]])
    """

    link: Literal["sigmoid", "identity"] = "sigmoid"

    has_scale: ClassVar[bool] = True

    def measure(self, levels: int) -> Measure:
        return Measure.DENSITY

    def log_prob(self, x: Tensor, params: Tensor, log_sigma: Tensor) -> Tensor:
        standardised = (x - self.mean(params)) * (-log_sigma).exp()
        return -0.5 * standardised.square() - log_sigma - 0.5 * math.log(2 * math.pi)

    def log_mass(self, x: Tensor, params: Tensor, log_sigma: Tensor, *, levels: int) -> Tensor:
        return discretized_log_mass(x, self.mean(params), log_sigma, levels=levels)

    def mean(self, params: Tensor) -> Tensor:
        location = params[:, 0]
        return location.sigmoid() if self.link == "sigmoid" else location

    def sample(self, params: Tensor, log_sigma: Tensor, generator: torch.Generator) -> Tensor:
        mean = self.mean(params)
        noise = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
        return mean + log_sigma.exp() * noise

    def optimal_log_sigma(self, x: Tensor, params: Tensor) -> Tensor:
        return 0.5 * (x - self.mean(params)).square().mean().log()


def discretized_log_mass(x: Tensor, mean: Tensor, log_sigma: Tensor, *, levels: int) -> Tensor:
    r"""Log-probability of a value's bin under a normal distribution, edge bins open.

    $$ \log\left[\Phi\left(\tfrac{x + h - \mu}{\sigma}\right)
               - \Phi\left(\tfrac{x - h - \mu}{\sigma}\right)\right],\quad h = \frac{1}{2(L-1)} $$

    Arguments:
        x: Data in [0, 1] on the grid of `levels`.
        mean: Means, of the shape of `x`.
        log_sigma: Logarithm of the scale, broadcastable to `x`.
        levels: L, at least 2.

    Returns:
        Nats, of the shape of `x`, in float64.

    Example:
        >>> grid = torch.linspace(0, 1, 4, dtype=torch.float64)
        >>> mass = discretized_log_mass(grid, torch.tensor(0.3), torch.tensor(-1.0), levels=4)
        >>> round(mass.exp().sum().item(), 12)
        1.0
    """
    # float64, because with a wide scale and 256 levels the two ends of a bin agree in all but
    # the last digits of a float32.
    x, mean, log_sigma = x.double(), mean.double(), log_sigma.double()
    half = 0.5 / (levels - 1)
    inverse_sigma = (-log_sigma).exp()
    low = torch.where(x <= half, -math.inf, (x - half - mean) * inverse_sigma)
    high = torch.where(x >= 1 - half, math.inf, (x + half - mean) * inverse_sigma)
    # Work in the lower tail, where the logarithm of the distribution function keeps its digits.
    flip = low + high > 0
    low, high = torch.where(flip, -high, low), torch.where(flip, -low, high)
    log_high = _log_ndtr(high)
    return log_high + _log1mexp(log_high - _log_ndtr(low))


def _log_ndtr(z: Tensor) -> Tensor:
    """The logarithm of Φ(z) in float64; `torch.special`'s own has no rule for vmap."""
    tail = torch.erfc(z.abs().clamp(max=30.0) * math.sqrt(0.5)) / 2
    far = torch.where(z < -30.0, z, -30.0)
    inverse = far.square().reciprocal()
    mills = 1 - inverse * (1 - 3 * inverse * (1 - 5 * inverse * (1 - 7 * inverse)))
    asymptotic = -0.5 * far.square() - (-far).log() - 0.5 * math.log(2 * math.pi) + mills.log()
    near = torch.where(z < 0, tail.log(), torch.log1p(-tail))
    return torch.where(z < -30.0, asymptotic, near)


def _log1mexp(t: Tensor) -> Tensor:
    """The logarithm of 1 - exp(-t) for t > 0, after Mächler (2012), accurate at both ends."""
    small = t < math.log(2.0)
    near = (-torch.expm1(-torch.where(small, t, 1.0))).log()
    far = torch.log1p(-torch.exp(-torch.where(small, 1.0, t)))
    return torch.where(small, near, far)
