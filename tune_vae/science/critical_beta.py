r"""The KL weight at which a decoder's best constant answer stops to be stable, to second order.

Shapes: n examples, N values of one, L levels.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tune_vae.science.likelihoods import Domain, Likelihood
from tune_vae.science.likelihoods.discretized_gaussian import DiscretizedGaussian
from tune_vae.science.likelihoods.discretized_logistic import DiscretizedLogistic
from tune_vae.science.likelihoods.negative_binomial import NegativeBinomial
from tune_vae.science.likelihoods.poisson import Poisson
from tune_vae.science.sigmas import LOWEST, Sigma
from tune_vae.science.sigmas.fixed import Fixed
from tune_vae.science.sigmas.optimal import Optimal
from tune_vae.science.sigmas.per_gene import PerGene
from tune_vae.science.sigmas.shared import Shared
from tune_vae.science.spectrum import largest_eigenvalue

__all__ = ["CriticalBeta", "critical_beta"]

SILENT = 0.5
"""Of the variance of the data, the share that may lie in values whose best constant mean is an
end of the range: there a sigmoid has no slope, and no latent can begin to move them."""
STEPS = 20
"""Of Newton's method, at most, towards the best constant."""
NEAR = 1e-3
"""Steps end when none is longer, in units of the data or of a logarithm."""

_SCALES: dict[type[Likelihood], tuple[type[Sigma], ...]] = {
    DiscretizedGaussian: (Fixed, Optimal),
    DiscretizedLogistic: (Fixed, Optimal),
    NegativeBinomial: (Fixed, Shared, PerGene),
    Poisson: (),
}


@dataclass(frozen=True)
class CriticalBeta:
    """A critical β, or why there is none, in words.

    Arguments:
        beta: Positive; None if nothing is known.
        why: A clause; empty if there is one.
    """

    beta: float | None
    why: str = ""


def critical_beta(x_nCHW: Tensor, likelihood: Likelihood, sigma: Sigma | None) -> CriticalBeta:
    r"""The β above which no latent begins to grow out of the best constant decoder.

    Let the decoder answer the same η for all examples, the one of highest likelihood; it has the
    scores $s_i = \partial \ln p(x_i) / \partial\eta$, whose mean is 0, with the covariance S, and
    the information $H = -\overline{\partial^2 \ln p / \partial\eta^2}$. Now a latent of mean
    $a\,u(x)$, where u has mean square 1, moves the decoder to $\eta + w z$. To second order in a
    and w it gains $a\, w^T c - \tfrac12 w^T H w$ nats of distortion, with
    $c = \overline{u\,s}$, and costs $\tfrac12 a^2$ nats of rate. The best w is $a H^{-1} c$, the
    best u linear in the scores, and what is left is positive if and only if

    $$ \beta < \lambda_1\!\left(H^{-1/2}\, S\, H^{-1/2}\right). $$

    It is the same for every link, since a change of variables scales scores and information
    alike. With one natural parameter for each value, $s = x - \mu$ and H is the variance function
    V: then it is $D^{-1/2} C D^{-1/2}$ in the units of the mean, with $D = V(\mu)$ and C the
    covariance of the data. For counts of an observed library of size $\ell_i$, whose mean is
    $\ell_i \pi_j$, the scores are

    $$ s_{ij} = \frac{x_{ij} - \ell_i \pi_j}{1 + \sigma^2 \ell_i \pi_j} $$

    in terms of $\ln \pi_j$. That shares add up to 1 takes nothing from them: so do the counts, so
    that $\sum_j \pi_j\, s_{ij} / h_{ij} = 0$ for each example with its expected information
    $h_{ij} = \ell_i \pi_j / (1 + \sigma^2 \ell_i \pi_j)$, and the scores lie along what shares can
    do. (With the mean information of all examples nearly so.) For a Poisson distribution
    $D_j = \bar\ell\,\pi_j$, and C is the covariance of the counts less what their library makes
    expected.

    What it does not say: whether a latent that moves far would be worth its rate. Data of a few
    tight clusters, or with examples far from all others, may live above the point. And of fewer
    examples than values λ₁ comes out too large, by about N/n for noise alone.

    References:
        | Don't Blame the ELBO! (Lucas et al., 2019), https://arxiv.org/abs/1911.02469
        | Maximum Likelihood Estimation of Misspecified Models (White, 1982), for S and H
        | https://doi.org/10.2307/1912526

    Arguments:
        x_nCHW: At least 2 examples from everywhere in the data: levels in [0, 1], or counts.
        likelihood: Discretised Gaussian or logistic, Poisson or negative binomial.
        sigma: Of levels `fixed` or `optimal`, of counts `fixed`, `shared` or `per_gene`; one that
            is not stated is fitted together with the constant.

    Example:
        >>> x = torch.tensor([[9.0, 1.0], [1.0, 9.0]])
        >>> found = critical_beta(x[:, None, None], Poisson(), None)
        >>> round(found.beta, 4)
        6.4
    """
    why = _refusal(x_nCHW, likelihood, sigma)
    if why:
        return CriticalBeta(None, why)
    x_nN = x_nCHW.double().flatten(1)
    if isinstance(likelihood, Poisson | NegativeBinomial):
        return _of_counts(x_nN, likelihood, sigma)
    assert isinstance(likelihood, DiscretizedGaussian | DiscretizedLogistic)
    # What is always the same can tell nothing, and its best mean may have no end.
    return _of_levels(x_nN[:, (x_nN != x_nN[0]).any(0)], likelihood, sigma)


def _refusal(x_nCHW: Tensor, likelihood: Likelihood, sigma: Sigma | None) -> str:
    if bool((x_nCHW == x_nCHW[:1]).all()):
        return "all examples are the same"
    if likelihood.params_per_value > 1:
        return (
            f"its decoder gives {likelihood.params_per_value} numbers for each value, of which "
            "second order overrates those that hardly ever matter"
        )
    if sigma and sigma.params_per_value:
        return "its scale moves with the latents"
    if isinstance(sigma, Shared) and Domain.LEVELS in likelihood.domains:
        return "a learned scale that begins narrow keeps latents alive beyond its critical beta"
    scales = _SCALES.get(type(likelihood))
    if scales is None or (likelihood.has_scale and not isinstance(sigma, scales)):
        return "its critical beta is not worked out"
    return ""


def _of_levels(
    x_nN: Tensor, likelihood: DiscretizedGaussian | DiscretizedLogistic, sigma: Sigma | None
) -> CriticalBeta:
    # There are fewer levels than examples, so that each is looked at once and weighed.
    levels, level_nN = torch.unique(x_nN, return_inverse=True)
    share_LN = torch.stack([(level_nN == i).double().mean(0) for i in range(len(levels))])
    x_LN = levels[:, None].expand_as(share_LN)
    # In terms of the mean, which is where a link is the identity.
    plain, bounded = replace(likelihood, link="identity"), likelihood.link == "sigmoid"
    mean_N = x_nN.mean(0)
    log_sigma = _begin(sigma, plain.optimal_log_sigma(x_nN, mean_N[None, None]))

    def log_prob(mean_LN: Tensor, log_sigma_LN: Tensor) -> Tensor:
        return plain.log_prob(x_LN, mean_LN[:, None], log_sigma_LN)

    for _ in range(STEPS):
        score_LN, curvature_LN = _derivatives(log_prob, mean_N.expand_as(x_LN), log_sigma)
        step_N = (share_LN * score_LN).sum(0) / (share_LN * curvature_LN).sum(0)
        before = mean_N, log_sigma
        mean_N = mean_N + step_N.clamp(-0.2, 0.2)
        mean_N = mean_N.clamp(0, 1) if bounded else mean_N.clamp(-2, 3)
        if isinstance(sigma, Optimal):
            log_sigma = plain.optimal_log_sigma(x_nN, mean_N[None, None])
        if _arrived(before, (mean_N, log_sigma)):
            break
    score_LN, curvature_LN = _derivatives(log_prob, mean_N.expand_as(x_LN), log_sigma)
    score_nN, information_N = score_LN.gather(0, level_nN), (share_LN * curvature_LN).sum(0)
    inside = (mean_N > 0) & (mean_N < 1) if bounded else mean_N.isfinite()
    variance_N = x_nN.var(0, correction=0)
    silent = float(variance_N[~inside].sum() / variance_N.sum())
    if silent > SILENT:
        return CriticalBeta(
            None,
            f"for {silent:.0%} of the variance of the data the best constant mean is black or "
            "white, where a sigmoid has no slope",
        )
    scaled_nN = score_nN[:, inside] / information_N[inside].sqrt()
    return CriticalBeta(largest_eigenvalue(scaled_nN).item())


def _of_counts(
    x_nN: Tensor, likelihood: Poisson | NegativeBinomial, sigma: Sigma | None
) -> CriticalBeta:
    # Of zeros alone the best mean is none.
    x_nN = x_nN[:, x_nN.any(0)]
    observed = likelihood.library == "observed"
    library_n1 = x_nN.sum(1, keepdim=True).clamp(min=1)
    # The best of a Poisson distribution, and near the best of the other.
    output_N = (x_nN.sum(0) / (library_n1.sum() if observed else len(x_nN))).log()
    log_sigma = _begin(sigma, x_nN.new_zeros(x_nN.shape[1] if isinstance(sigma, PerGene) else ()))

    def log_prob(log_mean_nN: Tensor, log_sigma: Tensor) -> Tensor:
        return likelihood.log_prob(x_nN, log_mean_nN[:, None], log_sigma)

    def log_mean_nN() -> Tensor:
        log_mean = output_N.log_softmax(0) + library_n1.log() if observed else output_N
        return log_mean.expand_as(x_nN)

    def local() -> tuple[Tensor, Tensor]:
        score_nN, curvature_nN = _derivatives(log_prob, log_mean_nN(), log_sigma)
        return score_nN, curvature_nN.mean(0)

    for _ in range(STEPS if likelihood.has_scale else 0):
        before = output_N, log_sigma
        score_nN, information_N = local()
        output_N = output_N + (score_nN.mean(0) / information_N).clamp(-1, 1)
        if not isinstance(sigma, Fixed):
            log_sigma = _next_scale(lambda one: log_prob(log_mean_nN(), one).mean(0), log_sigma)
        if _arrived(before, (output_N, log_sigma)):
            break
    score_nN, information_N = local()
    return CriticalBeta(largest_eigenvalue(score_nN / information_N.sqrt()).item())


def _arrived(before: tuple[Tensor, Tensor], after: tuple[Tensor, Tensor]) -> bool:
    return all(bool((b - a).abs().max() < NEAR) for a, b in zip(before, after, strict=True))


def _begin(sigma: Sigma | None, guess: Tensor) -> Tensor:
    """Logarithm of a scale that is stated, or with which the search begins."""
    return torch.full_like(guess, math.log(sigma.sigma)) if isinstance(sigma, Fixed) else guess


def _next_scale(log_prob: Callable[..., Tensor], log_sigma: Tensor) -> Tensor:
    """A step towards the most probable scales: Newton's, or uphill where there is no summit."""
    first, curvature = _derivatives(lambda one, _: log_prob(one), log_sigma, log_sigma)
    uphill = torch.where(curvature > 0, first / curvature, first.sign())
    return (log_sigma + uphill.clamp(-0.5, 0.5)).clamp(LOWEST, -LOWEST)


def _derivatives(
    log_prob: Callable[[Tensor, Tensor], Tensor], at: Tensor, log_sigma: Tensor
) -> tuple[Tensor, Tensor]:
    """First derivative and negative second of what works element by element."""
    with torch.enable_grad():
        at = at.detach().clone().requires_grad_()
        (first,) = torch.autograd.grad(log_prob(at, log_sigma).sum(), at, create_graph=True)
        (second,) = torch.autograd.grad(first.sum(), at)
    return first.detach(), -second
