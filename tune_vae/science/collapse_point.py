r"""The KL weight beyond which no latent can live, known from the data before any training.

Shapes: n examples, N values of one.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tune_vae.science.likelihoods import Likelihood
from tune_vae.science.likelihoods.bernoulli import Bernoulli
from tune_vae.science.likelihoods.continuous_bernoulli import ContinuousBernoulli
from tune_vae.science.likelihoods.gaussian import Gaussian
from tune_vae.science.sigmas import Sigma
from tune_vae.science.sigmas.fixed import Fixed
from tune_vae.science.sigmas.optimal import Optimal
from tune_vae.science.sigmas.shared import Shared
from tune_vae.science.spectrum import largest_eigenvalue

__all__ = ["EXAMPLES", "CollapsePoints", "collapse_points", "spectral_peak"]

EXAMPLES = 2048
"""Most examples that a collapse point is worth: the largest eigenvalue is then known to 1 %."""

EDGE = 0.05
"""Nearest to 0 and 1 that a continuous Bernoulli's mean is taken to be.

Its variance is near p² where values are nearly always 0, so that those which hardly ever differ
from 0, by little, would drive the eigenvalue up without an end: to thirteen times the point at
which trainings on Fashion-MNIST collapse, and to thirty of that on the digits.
"""


@dataclass(frozen=True)
class CollapsePoints:
    r"""The collapse points of a data set, one for each kind of decoder.

    At the collapse every example is decoded to the mean image, with variances D. Out of that no
    latent grows if

    $$ \beta > \lambda_1\!\left(D^{-1/2} C D^{-1/2}\right) $$

    where C is the covariance of the data: a latent of little rate R gains at most $\lambda_1 R$
    nats of distortion, and costs $\beta R$. Exact for a Gaussian with a linear decoder, and to
    second order around the mean image for all others.

    A few examples far from all others are beyond second order. To tell one of n from the rest
    costs about $\ln n$ nats per time it occurs and gains its divergence $d$ from the mean image,
    so that no point is taken to be below $\max_i d_i / \ln n$.

    Of a continuous Bernoulli D is the variance at the natural parameter whose mean is p, and the
    point a rule of experience, for p is kept from 0 and 1 by `EDGE`.

    References:
        | Don't Blame the ELBO! (Lucas et al., 2019), https://arxiv.org/abs/1911.02469

    Arguments:
        gaussian: Of a Gaussian of sigma 1; with another sigma it is this over sigma².
        variance: Mean variance of a value, which a fitted sigma² is at the collapse.
        bernoulli: Where D = p (1 - p) at the mean image p.
        continuous_bernoulli: Where D is the variance of a continuous Bernoulli of mean p.
    """

    gaussian: float
    variance: float
    bernoulli: float
    continuous_bernoulli: float

    def beta(self, likelihood: Likelihood, sigma: Sigma | None) -> float | None:
        """KL weight β from which on the latents of such a decoder are dead.

        Returns:
            Positive; None if it is not known of this decoder, or if all examples are the same.
        """
        if not self.variance:
            return None
        if isinstance(likelihood, Bernoulli):
            return self.bernoulli
        if isinstance(likelihood, ContinuousBernoulli):
            return self.continuous_bernoulli
        if isinstance(likelihood, Gaussian) and isinstance(sigma, Fixed):
            return self.gaussian / sigma.sigma**2
        if isinstance(likelihood, Gaussian) and isinstance(sigma, Shared | Optimal):
            return self.gaussian / self.variance
        return None


def collapse_points(x_nCHW: Tensor) -> CollapsePoints:
    """The collapse points of data in [0, 1].

    Arguments:
        x_nCHW: At least 2 examples, from everywhere in the data; some `EXAMPLES` are enough.

    Example:
        >>> points = collapse_points(torch.tensor([[0.0, 0.5], [1.0, 0.5]]))
        >>> points.variance, points.beta(Gaussian(), Optimal()), points.beta(Bernoulli(), None)
        (0.125, 2.0, 1.0)
    """
    x_nN = x_nCHW.double().flatten(1)
    values = x_nN.shape[1]
    # What is always the same can tell nothing, and has no variance to be measured in.
    x_nN = x_nN[:, (x_nN != x_nN[0]).any(0)]
    if not x_nN.numel():
        return CollapsePoints(0.0, 0.0, 0.0, 0.0)
    p_N = x_nN.mean(0)
    away_nN = x_nN - p_N
    square_n = away_nN.square().sum(1)
    flips_n = torch.xlogy(x_nN, x_nN / p_N) + torch.xlogy(1 - x_nN, (1 - x_nN) / (1 - p_N))
    return CollapsePoints(
        gaussian=_point(away_nN, square_n / 2),
        variance=square_n.mean().item() / values,
        bernoulli=_point(away_nN / (p_N * (1 - p_N)).sqrt(), flips_n.sum(1)),
        continuous_bernoulli=_point(away_nN / _variance(p_N).sqrt(), _gain(x_nN, p_N).sum(1)),
    )


def _natural(mean: Tensor) -> Tensor:
    """Natural parameter of the continuous Bernoulli of a mean that is kept from 0 and 1."""
    mean = mean.clamp(EDGE, 1 - EDGE)
    low, high = torch.full_like(mean, -1 / EDGE), torch.full_like(mean, 1 / EDGE)
    for _ in range(60):
        middle = (low + high) / 2
        below = _mean(middle) < mean
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2


def _mean(natural: Tensor) -> Tensor:
    return ContinuousBernoulli().mean(natural[:, None])


def _variance(mean: Tensor) -> Tensor:
    """Variance of the continuous Bernoulli of a mean: the derivative by its natural parameter."""
    with torch.enable_grad():
        natural = _natural(mean).requires_grad_()
        (variance,) = torch.autograd.grad(_mean(natural).sum(), natural)
    return variance


def _gain(x_nN: Tensor, mean_N: Tensor) -> Tensor:
    """Nats that a continuous Bernoulli gains if it is told each value instead of its mean."""
    x_nN, zero = x_nN.clamp(EDGE, 1 - EDGE), torch.zeros(())
    # There are as many parameters as levels, not as values.
    levels, level_nN = torch.unique(x_nN, return_inverse=True)
    told_nN, blind_nN = _natural(levels)[level_nN], _natural(mean_N).expand_as(x_nN)
    log_prob = ContinuousBernoulli().log_prob
    return log_prob(x_nN, told_nN[:, None], zero) - log_prob(x_nN, blind_nN[:, None], zero)


def _point(away_nN: Tensor, divergence_n: Tensor) -> float:
    """From the data in units of the decoder, and what each example gains if it is told apart."""
    alone = divergence_n.amax().item() / math.log(len(divergence_n))
    return max(largest_eigenvalue(away_nN).item(), alone)


def spectral_peak(x_nCHW: Tensor) -> Tensor:
    r"""Largest eigenvalue of the covariance of the data, $N \lambda_1 / \sum_i \lambda_i$.

    In units of the mean variance of a value: 1 for white noise, N if one direction is all. It is
    the KL weight at which a linear VAE with a fitted Gaussian scale stops to use its latents.

    References:
        | Don't Blame the ELBO! (Lucas et al., 2019), https://arxiv.org/abs/1911.02469

    Returns:
        Scalar, float64; NaN if all examples are the same.

    Example:
        >>> spectral_peak(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
        tensor(2., dtype=torch.float64)
    """
    x_nN = x_nCHW.double().flatten(1)
    away_nN = x_nN - x_nN.mean(0)
    return largest_eigenvalue(away_nN) / away_nN.square().mean()
