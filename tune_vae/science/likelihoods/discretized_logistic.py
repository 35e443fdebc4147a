"""Logistic distribution whose probability is counted bin by bin."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tune_vae.science.bins import check_levels, logistic_log_mass, nearest_level, sheppard
from tune_vae.science.likelihoods import Likelihood, Measure
from tune_vae.science.links import Link, linked

__all__ = ["DiscretizedLogistic"]


@dataclass(frozen=True)
class DiscretizedLogistic(Likelihood):
    r"""Probability of a grey level's bin under a logistic distribution, edge bins open.

    $$ \log P(x) = \log(1 - e^{-2h/s}) + \log \varsigma\left(\tfrac{x + h - \mu}{s}\right)
                 + \log \varsigma\left(-\tfrac{x - h - \mu}{s}\right),\quad
       h = \frac{1}{2(L-1)},\quad \varsigma(u) = \frac{1}{1 + e^{-u}} $$

    The scale s is the exponential of log sigma; the standard deviation is $\pi s / \sqrt 3$. The
    form above is exact everywhere, where the difference of two $\varsigma$ needs a fallback.

    The optimal scale is an estimate by moments, not the most probable one, which has no closed
    form: $s = \sqrt{3 v} / \pi$ with v the mean squared error less the variance of a bin, or a
    quarter of the error where the bin's is the larger part. It is within some percent of the
    most probable scale for logistic errors, and larger than it where the errors' tails are
    heavier.

    References:
        | Improving Variational Inference with Inverse Autoregressive Flow (Kingma et al., 2016)
        | https://arxiv.org/abs/1606.04934

    Arguments:
        levels: L, number of grey levels of the data, at least 2.
        link: How the decoder's output becomes the mean: `sigmoid` keeps it in (0, 1),
            `identity` leaves it as it is.

    Example:
        >>> grid = torch.tensor([[0.0, 0.5, 1.0]])
        >>> likelihood = DiscretizedLogistic(levels=3)
        >>> likelihood.log_prob(grid, torch.zeros(1, 1, 3), torch.tensor(-1.0)).exp()
        tensor([[0.3364, 0.3273, 0.3364]])
    """

    levels: int = 256
    link: Link = "sigmoid"

    has_scale: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_levels(self.levels)

    def measure(self, levels: int | None) -> Measure:
        return Measure.MASS if levels == self.levels else Measure.IMPROPER

    def log_prob(self, x: Tensor, params: Tensor, log_sigma: Tensor) -> Tensor:
        return logistic_log_mass(x, self.mean(params), log_sigma, levels=self.levels)

    def mean(self, params: Tensor) -> Tensor:
        return linked(params[:, 0], self.link)

    def sample(self, params: Tensor, log_sigma: Tensor, generator: torch.Generator) -> Tensor:
        mean = self.mean(params)
        uniform = torch.rand(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
        # A draw of exactly 0 gives -inf, which the nearest level makes 0.
        noise = uniform.log() - torch.log1p(-uniform)
        return nearest_level(mean + log_sigma.exp() * noise, levels=self.levels)

    def optimal_log_sigma(self, x: Tensor, params: Tensor) -> Tensor:
        squared_error = (x - self.mean(params)).square().mean()
        variance = sheppard(squared_error, levels=self.levels)
        return 0.5 * (3 * variance).log() - math.log(math.pi)
