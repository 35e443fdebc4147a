"""Normal distribution around the decoder's output."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tune_vae.science.bins import gaussian_log_mass
from tune_vae.science.likelihoods import Likelihood, Measure
from tune_vae.science.links import Link, linked

__all__ = ["Gaussian"]


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

    link: Link = "sigmoid"

    has_scale: ClassVar[bool] = True

    def measure(self, levels: int | None) -> Measure:
        return Measure.DENSITY

    def log_prob(self, x: Tensor, params: Tensor, log_sigma: Tensor) -> Tensor:
        standardised = (x - self.mean(params)) * (-log_sigma).exp()
        return -0.5 * standardised.square() - log_sigma - 0.5 * math.log(2 * math.pi)

    def log_mass(
        self, x: Tensor, params: Tensor, log_sigma: Tensor, *, levels: int | None
    ) -> Tensor:
        # float64, because a score is compared with others to the last digit.
        mean = self.mean(params).double()
        return gaussian_log_mass(x.double(), mean, log_sigma.double(), levels=levels)

    def mean(self, params: Tensor) -> Tensor:
        return linked(params[:, 0], self.link)

    def sample(self, params: Tensor, log_sigma: Tensor, generator: torch.Generator) -> Tensor:
        mean = self.mean(params)
        noise = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
        return mean + log_sigma.exp() * noise

    def optimal_log_sigma(self, x: Tensor, params: Tensor) -> Tensor:
        return 0.5 * (x - self.mean(params)).square().mean().log()
