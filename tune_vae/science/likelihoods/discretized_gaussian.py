"""Normal distribution whose probability is counted bin by bin."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tune_vae.science.bins import check_levels, gaussian_log_mass, nearest_level, sheppard
from tune_vae.science.likelihoods import Likelihood, Measure
from tune_vae.science.links import Link, linked

__all__ = ["DiscretizedGaussian"]


@dataclass(frozen=True)
class DiscretizedGaussian(Likelihood):
    r"""Probability of a grey level's bin under a normal distribution, edge bins open.

    $$ \log P(x) = \log\left[\Phi\left(\tfrac{x + h - \mu}{\sigma}\right)
                           - \Phi\left(\tfrac{x - h - \mu}{\sigma}\right)\right],\quad
       h = \frac{1}{2(L-1)} $$

    Unlike a density it has an upper bound, 0, so that no value can be met too exactly: sigma
    does not run to 0 on an image with constant parts. With sigma much larger than a bin it
    trains like `gaussian`.

    The optimal scale is the root of the mean squared error less the variance of a bin,
    $\mathrm{MSE} - (2h)^2 / 12$ (Sheppard's correction). For means in the interior it is within
    1 % of the most probable scale from a sigma of half a bin upwards; below that, where the
    correction takes more than three quarters of the MSE, a quarter of the MSE is kept. Where
    much of the data lies in the open bins, the most probable scale is larger.

    References:
        | Denoising Diffusion Probabilistic Models (Ho et al., 2020), equation 13
        | https://arxiv.org/abs/2006.11239

    Arguments:
        levels: L, number of grey levels of the data, at least 2.
        link: How the decoder's output becomes the mean: `sigmoid` keeps it in (0, 1),
            `identity` leaves it as it is.

    Example:
        >>> grid = torch.tensor([[0.0, 0.5, 1.0]])
        >>> likelihood = DiscretizedGaussian(levels=3)
        >>> likelihood.log_prob(grid, torch.zeros(1, 1, 3), torch.tensor(-1.0)).exp()
        tensor([[0.2484, 0.5032, 0.2484]])
    """

    levels: int = 256
    link: Link = "sigmoid"

    has_scale: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_levels(self.levels)

    def measure(self, levels: int | None) -> Measure:
        return Measure.MASS if levels == self.levels else Measure.IMPROPER

    def log_prob(self, x: Tensor, params: Tensor, log_sigma: Tensor) -> Tensor:
        return gaussian_log_mass(x, self.mean(params), log_sigma, levels=self.levels)

    def mean(self, params: Tensor) -> Tensor:
        return linked(params[:, 0], self.link)

    def sample(self, params: Tensor, log_sigma: Tensor, generator: torch.Generator) -> Tensor:
        mean = self.mean(params)
        noise = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
        return nearest_level(mean + log_sigma.exp() * noise, levels=self.levels)

    def optimal_log_sigma(self, x: Tensor, params: Tensor) -> Tensor:
        squared_error = (x - self.mean(params)).square().mean()
        return 0.5 * sheppard(squared_error, levels=self.levels).log()
