r"""The rate.

It is a sum over dimensions and a mean over examples, in nats.

Shapes: B batch, M latent.
"""

import torch
from torch import Tensor

__all__ = ["rate_nats"]


def rate_nats(
    mean_BM: Tensor,
    log_variance_BM: Tensor,
    prior_mean: Tensor,
    prior_log_variance: Tensor,
) -> Tensor:
    r"""KL divergence of a diagonal Gaussian posterior from a Gaussian prior, per latent.

    $$ \mathrm{KL}(\mathcal N(\mu, \sigma^2) \| \mathcal N(m, s^2))
       = \tfrac12 \left(\frac{(\mu - m)^2}{s^2} + r - 1 - \log r\right),\quad
       r = \frac{\sigma^2}{s^2} $$

    References:
        | Auto-Encoding Variational Bayes (Kingma & Welling, 2014), appendix B
        | https://arxiv.org/abs/1312.6114

    Arguments:
        mean_BM: Posterior means.
        log_variance_BM: Natural logarithm of the posterior variances.
        prior_mean, prior_log_variance: Of the prior, broadcastable to `BM`.

    Returns:
        Nats per example and latent, shape `BM`, at least 0. The rate of an example is its sum
        over M.

    Example:
        >>> zeros = torch.zeros(1, 2)
        >>> rate_nats(torch.tensor([[0.0, 1.0]]), zeros, zeros, zeros)
        tensor([[0.0000, 0.5000]])
    """
    away = (mean_BM - prior_mean) * (-0.5 * prior_log_variance).exp()
    return 0.5 * (away.square() + _beyond_line(log_variance_BM - prior_log_variance))


def _beyond_line(s: Tensor) -> Tensor:
    """The distance of exp(s) from its tangent 1 + s, to all digits and never below 0."""
    # A posterior close to the prior is where collapse is decided; there the difference would
    # cancel, and four terms of its series leave 3e-11 of it.
    near = s.clamp(-0.01, 0.01)
    series = near.square() / 2 * (1 + near / 3 * (1 + near / 4 * (1 + near / 5)))
    return torch.where(near == s, series, s.expm1() - s)
