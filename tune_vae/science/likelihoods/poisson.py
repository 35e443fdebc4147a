"""Poisson distribution of counts."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tune_vae.science.counts import (
    Library,
    check_library_size,
    poisson_log_mass,
    with_log_means,
)
from tune_vae.science.likelihoods import Domain, Likelihood, Measure

__all__ = ["Poisson"]


@dataclass(frozen=True)
class Poisson(Likelihood):
    r"""Poisson distribution of each count, whose variance is its mean.

    $$ \log P(x) = x \log \mu - \mu - \log x! $$

    References:
        | Deep generative modeling for single-cell transcriptomics (Lopez et al., 2018), for the
        | observed library
        | https://doi.org/10.1038/s41592-018-0229-2

    Arguments:
        library: `observed` tells the decoder the total count of the example, which it shares out
            by a softmax over all values and which no score counts; with `none` the mean of each
            value is the exponential of the decoder's output, softly bounded at $e^{20}$. Scores
            of the two do not compare.
        library_size: Total count of an imagined example, of which none is observed; at least 1.

    Example:
        >>> x = torch.tensor([[3.0, 1.0]])
        >>> params = Poisson().conditioned(torch.zeros(1, 1, 2), x)
        >>> Poisson().mean(params)
        tensor([[2., 2.]])
        >>> Poisson().log_prob(x, params, torch.tensor(0.0)).exp()
        tensor([[0.1804, 0.2707]])
    """

    library: Library = "observed"
    library_size: float = 1e4

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
        return poisson_log_mass(x, params[:, 0])

    def mean(self, params: Tensor) -> Tensor:
        return params[:, 0].exp()

    def sample(self, params: Tensor, log_sigma: Tensor, generator: torch.Generator) -> Tensor:
        return torch.poisson(self.mean(params), generator=generator)
