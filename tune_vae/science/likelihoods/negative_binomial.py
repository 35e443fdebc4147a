"""Negative binomial distribution of counts, more dispersed than the Poisson distribution."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tune_vae.science.counts import (
    Library,
    check_library_size,
    negative_binomial_draw,
    negative_binomial_log_mass,
    with_log_means,
)
from tune_vae.science.likelihoods import Domain, Likelihood, Measure

__all__ = ["NegativeBinomial"]


@dataclass(frozen=True)
class NegativeBinomial(Likelihood):
    r"""Negative binomial distribution of each count, with its dispersion from the sigma mode.

    $$ \log P(x) = \log \frac{\Gamma(x + \theta)}{\Gamma(\theta)\, x!}
                 + \theta \log \frac{\theta}{\theta + \mu} + x \log \frac{\mu}{\theta + \mu},\quad
       \theta = \sigma^{-2} $$

    A Poisson distribution whose mean varies: the variance is $\mu + \sigma^2 \mu^2$, so that σ
    is the biological coefficient of variation. Its most probable value has no closed form, nor
    need it be finite or above 0, so there is no optimal scale.

    References:
        | Deep generative modeling for single-cell transcriptomics (Lopez et al., 2018)
        | https://doi.org/10.1038/s41592-018-0229-2
        | Differential expression analysis of multifactor RNA-Seq experiments with respect to
        | biological variation (McCarthy et al., 2012), for the coefficient of variation
        | https://doi.org/10.1093/nar/gks042

    Arguments:
        library: `observed` tells the decoder the total count of the example, which it shares out
            by a softmax over all values and which no score counts; with `none` the mean of each
            value is the exponential of the decoder's output, softly bounded at $e^{20}$. Scores
            of the two do not compare.
        library_size: Total count of an imagined example, of which none is observed; at least 1.

    Example:
        >>> x = torch.tensor([[3.0, 1.0]])
        >>> likelihood = NegativeBinomial()
        >>> params = likelihood.conditioned(torch.zeros(1, 1, 2), x)
        >>> likelihood.log_prob(x, params, torch.tensor(0.0)).exp()
        tensor([[0.0988, 0.2222]])
    """

    library: Library = "observed"
    library_size: float = 1e4

    has_scale: ClassVar[bool] = True
    has_optimal_scale: ClassVar[bool] = False
    domains: ClassVar[frozenset[Domain]] = frozenset({Domain.COUNTS})

    def __post_init__(self) -> None:
        check_library_size(self.library_size)

    def measure(self, levels: int | None) -> Measure:
        return Measure.MASS if levels is None else Measure.IMPROPER

    def features(self, x: Tensor) -> Tensor:
        return x.log1p()

    def conditioned(self, params: Tensor, x: Tensor | None) -> Tensor:
        return with_log_means(params, x, library=self.library, library_size=self.library_size)

    def log_prob(self, x: Tensor, params: Tensor, log_sigma: Tensor) -> Tensor:
        return negative_binomial_log_mass(x, params[:, 0], -2 * log_sigma)

    def mean(self, params: Tensor) -> Tensor:
        return params[:, 0].exp()

    def sample(self, params: Tensor, log_sigma: Tensor, generator: torch.Generator) -> Tensor:
        return negative_binomial_draw(params[:, 0], -2 * log_sigma, generator)
