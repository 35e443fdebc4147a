"""Mixture of discretised logistic distributions, each with a scale of its own.

Shapes: B batch, K components, then the axes of one example.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

from tune_vae.science.bins import (
    check_levels,
    draw_index,
    gauss_legendre,
    logistic_log_mass,
    nearest_level,
)
from tune_vae.science.likelihoods import Likelihood, Measure

__all__ = ["LogisticMixture"]


@dataclass(frozen=True)
class LogisticMixture(Likelihood):
    r"""Mixture of K logistic distributions, counted bin by bin, edge bins open.

    $$ \log P(x) = \log \sum_k \pi_k \left[
         \varsigma\left(\tfrac{x + h - \mu_k}{s_k}\right)
       - \varsigma\left(\tfrac{x - h - \mu_k}{s_k}\right)\right],\quad
       h = \frac{1}{2(L-1)},\quad \varsigma(u) = \frac{1}{1 + e^{-u}} $$

    The decoder gives for each value K logits of the weights, K means and K log-scales, the last
    two in units where the data run from -1 to 1, as in the paper; a softplus keeps the
    log-scales above `floor`. Unlike there, the colours of a pixel are independent given the
    latent. The model sets its own scales, so no sigma mode applies.

    Its mean is that of the mixture with values beyond 0 and 1 counted as 0 and 1; the mean of
    the levels differs from it by less than half a bin.

    References:
        | PixelCNN++ (Salimans et al., 2017), section 2.1
        | https://arxiv.org/abs/1701.05517

    Arguments:
        levels: L, number of grey levels of the data, at least 2.
        components: K, at least 1.
        floor: Lower bound of the log-scales, in [-20, 0].

    Example:
        >>> grid = torch.tensor([[0.0, 0.5, 1.0]])
        >>> likelihood = LogisticMixture(levels=3, components=2)
        >>> likelihood.log_prob(grid, torch.zeros(1, 6, 3), torch.tensor(0.0)).exp()
        tensor([[0.3776, 0.2447, 0.3776]])
    """

    levels: int = 256
    components: int = 10
    floor: float = -7.0

    def __post_init__(self) -> None:
        check_levels(self.levels)
        if self.components < 1:
            raise ValueError(f"components must be at least 1, got {self.components}")
        if not -20 <= self.floor <= 0:
            raise ValueError(f"floor must be at least -20 and at most 0, got {self.floor}")

    @property
    def params_per_value(self) -> int:
        return 3 * self.components

    def measure(self, levels: int | None) -> Measure:
        return Measure.MASS if levels == self.levels else Measure.IMPROPER

    def log_prob(self, x: Tensor, params: Tensor, log_sigma: Tensor) -> Tensor:
        logit, mean, log_scale = self._split(params)
        each = logistic_log_mass(x.unsqueeze(1), mean, log_scale, levels=self.levels)
        return (logit.log_softmax(1) + each).logsumexp(1)

    def mean(self, params: Tensor) -> Tensor:
        logit, mean, log_scale = self._split(params)
        return (logit.softmax(1) * _clipped_mean(mean, log_scale)).sum(1)

    def sample(self, params: Tensor, log_sigma: Tensor, generator: torch.Generator) -> Tensor:
        logit, mean, log_scale = self._split(params)
        chosen = draw_index(logit, generator)
        mean, log_scale = (part.gather(1, chosen).squeeze(1) for part in (mean, log_scale))
        uniform = torch.rand(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
        # With e^80 for all that is wider, the draw lies beyond 0 or 1 all the same.
        noise = log_scale.clamp(max=80.0).exp() * (uniform.log() - torch.log1p(-uniform))
        return nearest_level(mean + noise, levels=self.levels)

    def _split(self, params: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of the weights, means and log-scales, each `BK...`, for data in [0, 1]."""
        logit, mean, free = params.chunk(3, dim=1)
        log_scale = self.floor + softplus(free - self.floor)
        return logit, 0.5 * (1 + mean), log_scale - math.log(2.0)


def _clipped_mean(mean: Tensor, log_scale: Tensor) -> Tensor:
    """Expectation of a logistic variable clipped to [0, 1]: its tail integrated over [0, 1]."""
    inverse = (-log_scale).exp()
    wide = log_scale > 0
    scale = torch.where(wide, 0.0, log_scale).exp()
    narrow = torch.where(wide, 1.0, inverse)
    exact = scale * (logsigmoid((1 - mean) * narrow) - logsigmoid(-mean * narrow))
    # For a wide one the two terms cancel, and the tail is smooth.
    spread = torch.where(wide, inverse, 1.0)
    smooth = gauss_legendre(lambda u: ((mean - 0.5 * (1 + u)) * spread).sigmoid())
    return torch.where(wide, smooth, exact)
