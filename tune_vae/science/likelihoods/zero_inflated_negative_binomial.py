"""Negative binomial distribution of counts, some of which are lost."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from tune_vae.science.counts import (
    Library,
    check_library_size,
    negative_binomial_draw,
    negative_binomial_log_mass,
    with_log_means,
)
from tune_vae.science.likelihoods import Domain, Likelihood, Measure

__all__ = ["ZeroInflatedNegativeBinomial"]


@dataclass(frozen=True)
class ZeroInflatedNegativeBinomial(Likelihood):
    r"""Negative binomial distribution that with probability π is replaced by 0.

    $$ P(x) = \pi\, [x = 0] + (1 - \pi)\, \mathrm{NB}(x; \mu, \theta),\quad
       \theta = \sigma^{-2} $$

    The decoder gives for each value the mean, as in `negative_binomial`, and the logit of its
    dropout π. The expected value is $(1 - \pi) \mu$, so with an observed library the expected
    counts add up to less than the total. There is no optimal scale.

    References:
        | Deep generative modeling for single-cell transcriptomics (Lopez et al., 2018)
        | https://doi.org/10.1038/s41592-018-0229-2

    Arguments:
        library: `observed` tells the decoder the total count of the example, which it shares out
            by a softmax over all values and which no score counts; with `none` the mean of each
            value is the exponential of the decoder's output, softly bounded at $e^{20}$. Scores
            of the two do not compare.
        library_size: Total count of an imagined example, of which none is observed; at least 1.

    Example:
        >>> x = torch.tensor([[4.0, 0.0]])
        >>> likelihood = ZeroInflatedNegativeBinomial()
        >>> params = likelihood.conditioned(torch.zeros(1, 2, 2), x)
        >>> likelihood.log_prob(x, params, torch.tensor(0.0)).exp()
        tensor([[0.0329, 0.6667]])
    """

    library: Library = "observed"
    library_size: float = 1e4

    has_scale: ClassVar[bool] = True
    has_optimal_scale: ClassVar[bool] = False
    domains: ClassVar[frozenset[Domain]] = frozenset({Domain.COUNTS})

    def __post_init__(self) -> None:
        check_library_size(self.library_size)

    @property
    def params_per_value(self) -> int:
        return 2

    def measure(self, levels: int | None) -> Measure:
        return Measure.MASS if levels is None else Measure.IMPROPER

    def features(self, x: Tensor) -> Tensor:
        return x.log1p()

    def conditioned(self, params: Tensor, x: Tensor | None) -> Tensor:
        return with_log_means(params, x, library=self.library, library_size=self.library_size)

    def log_prob(self, x: Tensor, params: Tensor, log_sigma: Tensor) -> Tensor:
        log_mean, dropout = params.unbind(1)
        counted = logsigmoid(-dropout) + negative_binomial_log_mass(x, log_mean, -2 * log_sigma)
        return torch.where(x > 0, counted, torch.logaddexp(logsigmoid(dropout), counted))

    def mean(self, params: Tensor) -> Tensor:
        log_mean, dropout = params.unbind(1)
        return log_mean.exp() * (-dropout).sigmoid()

    def sample(self, params: Tensor, log_sigma: Tensor, generator: torch.Generator) -> Tensor:
        log_mean, dropout = params.unbind(1)
        counted = negative_binomial_draw(log_mean, -2 * log_sigma, generator)
        return counted * torch.bernoulli((-dropout).sigmoid(), generator=generator)
