r"""The KL weight at which a VAE stops to use its latents, from data and decoder distribution alone.

Shapes: n examples, C H W image.
"""

import torch
from torch import Tensor

from tune_vae.science.likelihoods import Domain, Likelihood
from tune_vae.science.sigmas import Sigma
from tune_vae.science.sigmas.fixed import Fixed
from tune_vae.science.sigmas.optimal import Optimal
from tune_vae.science.sigmas.per_channel import PerChannel
from tune_vae.science.sigmas.per_gene import PerGene
from tune_vae.science.sigmas.shared import Shared

__all__ = ["critical_beta"]

ITERATIONS = 200
RARE = 0.02
"""A value that is another than usual in fewer examples than this share is taken as constant. A
direction of a handful of examples may have an eigenvalue beyond all others and tells nothing of
the rest."""


def critical_beta(likelihood: Likelihood, sigma: Sigma | None, x_nCHW: Tensor) -> float | None:
    r"""The largest β at which the latents of a VAE can come to life; None where none is known.

    Around the decoder that says the same θ of every example, and says it best, let u(x) be the
    score $\partial \log p(x|\theta) / \partial \theta$ and H the mean of
    $-\partial^2 \log p(x|\theta) / \partial \theta^2$, which is diagonal. A decoder θ + W z with
    the posterior N(a(x), 1) gains

    $$ E\bigl[u^T W a\bigr] - \tfrac12 \operatorname{tr} W^T H W
       - \tfrac\beta2\, E\,|a|^2 $$

    over it to second order. The best a is $W^T u / \beta$, and what then remains is positive for
    some W if and only if

    $$ \beta < \lambda_{\max}\bigl(H^{-1/2} \operatorname{Cov}(u) H^{-1/2}\bigr) $$

    For a distribution of mean m and variance D in its natural parameter this is
    $\lambda_{\max}(D^{-1/2} \operatorname{Cov}(x) D^{-1/2})$, so $\lambda_1 / \sigma^2$ for a
    Gaussian. It is where collapse is stable; a strong decoder or a cycle of the schedule may
    escape it, and training may end collapsed below it.

    None where the expansion does not hold: several parameters per value, a density with a cusp,
    a scale that the decoder or each example sets for itself, and counts of a given total but for
    Poisson's, whose shares it treats exactly.

    References:
        | Don't Blame the ELBO! (Lucas et al., 2019), https://arxiv.org/abs/1911.02469: Gaussians

    Arguments:
        likelihood: The decoder distribution.
        sigma: How its scale is set; one that is learned is taken as fitted. None without scale.
        x_nCHW: Training examples in random order, in [0, 1] or counts; 2,000 give 1 %.

    Example:
        >>> from tune_vae.science.likelihoods.gaussian import Gaussian
        >>> x = torch.tensor([0.2, 0.8]).view(2, 1, 1, 1)
        >>> round(critical_beta(Gaussian(), Fixed(sigma=0.1), x), 3)
        9.0
    """
    axes = _axes_of_one_scale(sigma)
    if likelihood.params_per_value > 1 or (likelihood.has_scale and axes is None):
        return None
    x = x_nCHW.double()
    varies = _varies(x.flatten(1))
    if not varies.any():
        return None
    theta, log_sigma = _constant_model(likelihood, sigma, axes, x)
    params = likelihood.conditioned(theta.expand(len(x), *theta.shape[1:]), x)
    params = params.detach().requires_grad_()
    log_prob = likelihood.log_prob(x, params, log_sigma)
    (score,) = torch.autograd.grad(log_prob.sum(), params, create_graph=True)
    if not score.requires_grad:
        return None
    (change,) = torch.autograd.grad(score.sum(), params, materialize_grads=True)
    score_nN = score.detach().flatten(1)
    score_nN = score_nN - score_nN.mean(0)
    curvature_N = -change.mean(0).flatten()
    if not (curvature_N[varies] > 0).all():
        return None
    rows_nN = score_nN[:, varies] / curvature_N[varies].sqrt()
    few = len(rows_nN) < rows_nN.shape[1]
    square = rows_nN @ rows_nN.T if few else rows_nN.T @ rows_nN
    return float(torch.linalg.eigvalsh(square)[-1]) / len(x)


def _varies(x_nN: Tensor) -> Tensor:
    """Which values are not nearly the same in all examples."""
    return (x_nN != x_nN.mode(0).values).double().mean(0) >= RARE


def _axes_of_one_scale(sigma: Sigma | None) -> tuple[int, ...] | None:
    """Axes over which one scale holds, in examples × C × H × W; None if no mode that is known."""
    if isinstance(sigma, Fixed | Shared | Optimal):
        return (0, 1, 2, 3)
    if isinstance(sigma, PerChannel):
        return (0, 2, 3)
    return (0,) if isinstance(sigma, PerGene) else None


def _constant_model(
    likelihood: Likelihood, sigma: Sigma | None, axes: tuple[int, ...] | None, x: Tensor
) -> tuple[Tensor, Tensor]:
    """The decoder's output, `1PCHW`, and log sigma that explain all examples best at once."""
    shape = x.shape[1:]
    size = [1 if axes and axis in axes else length for axis, length in enumerate(x.shape)]
    log_sigma = torch.zeros(size, dtype=x.dtype)
    if likelihood.has_scale and isinstance(sigma, Fixed):
        log_sigma = log_sigma + torch.tensor(sigma.sigma, dtype=x.dtype).log()
    elif likelihood.has_scale:
        log_sigma = 0.5 * x.var(axes, correction=0, keepdim=True).clamp(min=1e-6).log()
        log_sigma.requires_grad_()

    def nats(theta: Tensor) -> Tensor:
        params = likelihood.conditioned(theta.expand(len(x), *theta.shape[1:]), x)
        return -likelihood.log_prob(x, params, log_sigma).sum() / len(x)

    # Of what a mean may be under the links that there are, the best one to begin with.
    mean = x.mean(0)[None, None]
    inside = mean.clamp(0.01, 0.99)
    starts = (mean, inside.logit(), mean.clamp(min=1e-3).log())
    theta = min(starts, key=lambda start: float(nats(start).nan_to_num(torch.inf)))
    theta = theta.clone().requires_grad_()
    free = [theta, log_sigma] if log_sigma.requires_grad else [theta]
    optimiser = torch.optim.LBFGS(
        free, max_iter=ITERATIONS, tolerance_grad=1e-9, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = nats(theta)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(closure)
    return theta.detach(), log_sigma.detach()
