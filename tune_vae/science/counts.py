r"""Means and probabilities of counts 0, 1, 2, ..., in logarithms.

Probabilities are accurate from a mean of 1e-8 to one of 1e6 and beyond, and for negative
binomials from the most to the least dispersed, in float32 as in float64; see `saddlepoint` for
the form.

Shapes: B batch, P parameters per value, then the axes of one example.
"""

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from tune_vae.science.saddlepoint import deviance, stirling_remainder

__all__ = [
    "HIGHEST_LOG_MEAN",
    "Library",
    "check_library_size",
    "negative_binomial_draw",
    "negative_binomial_log_mass",
    "poisson_log_mass",
    "with_log_means",
]

Library = Literal["observed", "none"]
"""Whether the decoder is told the library size, the total count of the example."""

HIGHEST_LOG_MEAN = 20.0
"""Soft upper bound of the logarithm of a mean that the decoder gives by itself."""


def check_library_size(size: float) -> None:
    """Refuse a total count that no example can have."""
    if not (math.isfinite(size) and size >= 1):
        raise ValueError(f"library_size must be at least 1 and finite, got {size}")


def with_log_means(
    params: Tensor, x: Tensor | None, *, library: Library, library_size: float
) -> Tensor:
    r"""The decoder's output with its first parameter turned into the logarithm of the mean.

    With an observed library of size $\ell$ the output says how the total count is shared,

    $$ \mu_i = \ell\, e^{\eta_i} \Big/ \sum_j e^{\eta_j},\quad
       \ell = \max\left(1, \sum_j x_j\right), $$

    without one the mean is $e^\eta$, softly bounded at $e^{20}$. What it takes to state the total
    is part of no score: an observed library may save some nats per example, so that scores
    with and without one do not compare.

    References:
        | Deep generative modeling for single-cell transcriptomics (Lopez et al., 2018)
        | https://doi.org/10.1038/s41592-018-0229-2

    Arguments:
        params: What the decoder gave, shape `BP...`.
        x: Counts, shape `B...`; None for imagined examples.
        library: Whether the size of the library is known.
        library_size: Of imagined examples, at least 1.
    """
    output = params[:, 0]
    if library == "none":
        log_mean = -torch.logaddexp(-output, torch.full_like(output, -HIGHEST_LOG_MEAN))
    else:
        log_share = output.flatten(1).log_softmax(1)
        if x is None:
            log_size = torch.full_like(log_share[:, :1], library_size).log()
        else:
            log_size = x.flatten(1).sum(1, keepdim=True).clamp(min=1).log()
        log_mean = (log_share + log_size).reshape(output.shape)
    return torch.cat([log_mean.unsqueeze(1), params[:, 1:]], dim=1)


def poisson_log_mass(x: Tensor, log_mean: Tensor) -> Tensor:
    r"""Log-probability of counts, $x \log \mu - \mu - \log x!$, in nats.

    Arguments:
        x: Counts.
        log_mean: Logarithm of the mean, broadcastable to `x`.

    Example:
        >>> poisson_log_mass(torch.tensor([0.0, 1.0, 2.0]), torch.tensor(0.0)).exp()
        tensor([0.3679, 0.3679, 0.1839])
    """
    mean = log_mean.exp()
    some = x > 0
    x_ = torch.where(some, x, 1.0)
    log_x = x_.log()
    apart = deviance(x_, mean, excess=x_ - mean, log_ratio=log_x - log_mean)
    beyond_0 = -apart - 0.5 * (math.log(2 * math.pi) + log_x) - stirling_remainder(x_, log_x)
    return torch.where(some, beyond_0, -mean)


def negative_binomial_log_mass(x: Tensor, log_mean: Tensor, log_theta: Tensor) -> Tensor:
    r"""Log-probability of counts whose variance is $\mu + \mu^2 / \theta$, in nats.

    $$ \log P(x) = \log \frac{\Gamma(x + \theta)}{\Gamma(\theta)\, x!}
                 + \theta \log \frac{\theta}{\theta + \mu} + x \log \frac{\mu}{\theta + \mu} $$

    Arguments:
        x: Counts.
        log_mean: Logarithm of the mean µ, broadcastable to `x`.
        log_theta: Logarithm of the inverse dispersion θ, broadcastable to `x`.

    Example:
        >>> zero = torch.tensor(0.0)
        >>> negative_binomial_log_mass(torch.tensor([0.0, 1.0, 2.0]), zero, zero).exp()
        tensor([0.5000, 0.2500, 0.1250])
    """
    mean, theta = log_mean.exp(), log_theta.exp()
    log_ratio = log_mean - log_theta
    # Of θ + µ; not a softplus, which torch takes for the identity beyond 20.
    log_share, log_rest = logsigmoid(log_ratio), logsigmoid(-log_ratio)
    some = x > 0
    x_ = torch.where(some, x, 1.0)
    n = x_ + theta
    log_x, log_n = x_.log(), n.log()
    # A binomial of n trials, x and θ of each kind, where xs and thetas were expected.
    xs, thetas = n * log_share.exp(), n * log_rest.exp()
    excess = (x_ - mean) * log_rest.exp()
    apart = deviance(x_, xs, excess=excess, log_ratio=log_x - log_n - log_share)
    apart_ = deviance(theta, thetas, excess=-excess, log_ratio=log_theta - log_n - log_rest)
    beyond_0 = (
        0.5 * (log_theta - log_n - log_x - math.log(2 * math.pi))
        + stirling_remainder(n, log_n)
        - stirling_remainder(theta, log_theta)
        - stirling_remainder(x_, log_x)
        - apart
        - apart_
    )
    return torch.where(some, beyond_0, theta * log_rest)


def negative_binomial_draw(
    log_mean: Tensor, log_theta: Tensor, generator: torch.Generator
) -> Tensor:
    """Counts of a Poisson distribution whose mean is drawn from a gamma distribution."""
    shape = log_theta.exp().expand_as(log_mean).contiguous()
    # The sampler of `torch.distributions.Gamma`, which itself takes no generator.
    gamma = torch._standard_gamma(shape, generator=generator)
    return torch.poisson(gamma * (log_mean - log_theta).exp(), generator=generator)
