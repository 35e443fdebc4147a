r"""What the latents say of the data, and whether the decoder listens.

The rate splits into two parts (Hoffman & Johnson, 2016): the information that a latent holds on
its example, and the gap between all posteriors together and the prior,

$$ \mathbb E_x \mathrm{KL}(q(z|x) \| p(z)) = I(x; z) + \mathrm{KL}(q(z) \| p(z)),\quad
   q(z) = \mathbb E_x q(z|x). $$

Shapes: n probes (examples), r of which are looked at together, B batch, M latent, C H W image.

References:
    | ELBO surgery (Hoffman & Johnson, 2016)
    | http://approximateinference.org/accepted/HoffmanJohnson2016.pdf
"""

import math
from typing import NamedTuple, Self

import torch
from torch import Tensor

__all__ = ["Estimate", "Information", "decoder_sensitivity", "information"]

ROWS = 1024
"""Probes that are compared with all others at once."""


class Estimate(NamedTuple):
    """A mean over examples.

    Attributes:
        value: The mean, a scalar.
        error: Its standard error, a scalar; NaN of a single example.
    """

    value: Tensor
    error: Tensor

    @classmethod
    def of(cls, terms_n: Tensor) -> Self:
        """Of independent terms, one an example.

        Example:
            >>> Estimate.of(torch.tensor([1.0, 2.0, 3.0, 6.0]))
            Estimate(value=tensor(3.), error=tensor(1.0801))
        """
        count = len(terms_n)
        return cls(terms_n.mean(), (terms_n.var(correction=0) / (count - 1)).sqrt())


class Information(NamedTuple):
    """Both parts of the rate, in nats.

    Attributes:
        mutual: I(x; z), at most `limit`.
        gap: KL of the aggregate posterior from the prior: the rate less the information. Where
            the information is underestimated, the gap is overestimated by as much.
        limit: ln n. From n probes no more can be told, however much there is.
    """

    mutual: Estimate
    gap: Estimate
    limit: float

    @property
    def saturated(self) -> bool:
        """Whether the estimate is too near its limit and so says "at least" only.

        Of Gaussian latents it was low by 0.2 to 0.5 nats at 2 nats below the limit.
        """
        return float(self.mutual.value) > self.limit - 2


def information(
    latent_nM: Tensor, mean_nM: Tensor, log_variance_nM: Tensor, rate_n: Tensor
) -> Information:
    r"""Mutual information of examples and latents under the aggregate posterior.

    $$ I(x; z) \approx \frac1n \sum_i \left[ \log q(z_i|x_i)
                       - \log \frac1n \sum_j q(z_i|x_j) \right],\quad z_i \sim q(z|x_i) $$

    For probes that are drawn from the data its expectation is at most the information, and
    the closer the further that lies below ln n; it cannot exceed ln n, because a mixture
    of n that holds the posterior itself is at least 1/n of it.

    References:
        | Hoffman & Johnson (2016), above; as a bound: On Variational Bounds of Mutual Information
        | (Poole et al., 2019), https://arxiv.org/abs/1905.06922

    Arguments:
        latent_nM: One draw from each posterior.
        mean_nM, log_variance_nM: The diagonal Gaussian posteriors of n probes, at least 2.
        rate_n: Rate of each probe, summed over the latents, nats.

    Returns:
        Numbers in float64. The standard errors are those over probes drawn anew: to first order
        only a probe's own summand counts, because its share of the mixture is on average the
        same for every probe, $\mathbb E_{q(z)}\, q(z|x) / q(z) = 1$.

    Example:
        >>> mean = torch.tensor([[-50.0], [50.0]])  # certain to be told apart: one bit
        >>> information(mean, mean, torch.zeros(2, 1), torch.full((2,), 1250.0)).mutual.value
        tensor(0.6931, dtype=torch.float64)
    """
    terms_n = _summands(latent_nM, mean_nM, log_variance_nM)
    return Information(
        mutual=Estimate.of(terms_n),
        gap=Estimate.of(rate_n.double() - terms_n),
        limit=math.log(len(latent_nM)),
    )


def _summands(latent_nM: Tensor, mean_nM: Tensor, log_variance_nM: Tensor) -> Tensor:
    """Of the estimate, one a probe, none above ln n."""
    # Near the origin, where the products below lose little by subtraction.
    centre_M = mean_nM.double().mean(0)
    latent_nM, mean_nM = latent_nM.double() - centre_M, mean_nM.double() - centre_M
    log_variance_nM = log_variance_nM.double()
    precision_nM = (-log_variance_nM).exp()
    constant_n = (mean_nM.square() * precision_nM + log_variance_nM).sum(1)
    log_mixture = []
    for start in range(0, len(latent_nM), ROWS):
        z_rM = latent_nM[start : start + ROWS]
        squares_rn = z_rM.square() @ precision_nM.T
        products_rn = z_rM @ (mean_nM * precision_nM).T
        # Without the factor that normal densities of M dimensions have in common.
        log_each_rn = -0.5 * (squares_rn - 2 * products_rn + constant_n)
        log_mixture.append(log_each_rn.logsumexp(1) - math.log(len(latent_nM)))
    log_own_n = -0.5 * ((latent_nM - mean_nM).square() * precision_nM + log_variance_nM).sum(1)
    return log_own_n - torch.cat(log_mixture)


def decoder_sensitivity(image_BCHW: Tensor, other_BCHW: Tensor, x_BCHW: Tensor) -> Tensor:
    r"""Share of the data's variance that a change of latent makes in the decoder's mean image.

    $$ \frac{\sum_i \| m(z_i, x_i) - m(z_i', x_i) \|^2}{2 \sum_i \| x_i - \bar x \|^2} $$

    Two independent images of a set differ by twice its variance, hence the 2: the score is 0 if
    the decoder ignores its latent, and near 1 if its images vary as the data do. It looks at
    what the decoder does, not at the KL term, so that it has the same meaning for every
    likelihood, beta and prior.

    Arguments:
        image_BCHW: Mean images of latents z drawn from the posteriors of `x`.
        other_BCHW: The same, each for the latent of another example (shift the latents by one
            place) or for one from the prior; all else that the decoder is told unchanged.
        x_BCHW: The examples, in random order and not all the same.

    Returns:
        Scalar, float64, at least 0; NaN or infinite if all examples are the same.

    Example:
        >>> x = torch.rand(1000, 1, 2, 2, generator=torch.Generator().manual_seed(0))
        >>> round(decoder_sensitivity(x, x.roll(1, 0), x).item(), 1)  # a perfect reconstruction
        1.0
    """
    change = (image_BCHW.double() - other_BCHW.double()).square().sum()
    spread = (x_BCHW.double() - x_BCHW.double().mean(0)).square().sum()
    return change / (2 * spread)
