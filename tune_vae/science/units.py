r"""Units: nats and bits per dimension, beta and its norm.

Bits per dimension are derived here and nowhere else. N is the number of data values of one example
(C·H·W), M the latent size.
"""

import math

__all__ = ["beta_from_norm", "beta_to_norm", "bits_per_dim"]


def bits_per_dim(nats: float, values: int) -> float:
    r"""Bits per data value, $\mathrm{nats} / (N \ln 2)$.

    Arguments:
        nats: Nats per example.
        values: N, the number of data values of one example, at least 1.

    Example:
        >>> round(bits_per_dim(math.log(256) * 784, values=784), 6)
        8.0
    """
    return nats / (values * math.log(2.0))


def beta_from_norm(beta_norm: float, *, values: int, latents: int) -> float:
    r"""KL weight $\beta = \beta_\mathrm{norm} N / M$.

    M is the latent size. It is never the batch size: a batch is averaged over, so it does not
    move the balance of rate and distortion.

    References:
        | beta-VAE (Higgins et al., 2017), section 4.2
        | https://openreview.net/forum?id=Sy2fzU9gl

    Arguments:
        beta_norm: Normalised weight, positive.
        values: N, data values of one example.
        latents: M, latent size.

    Example:
        >>> beta_from_norm(0.5, values=784, latents=20)
        19.6
    """
    return beta_norm * values / latents


def beta_to_norm(beta: float, *, values: int, latents: int) -> float:
    r"""Normalised weight $\beta_\mathrm{norm} = \beta M / N$, the inverse of `beta_from_norm`.

    Example:
        >>> beta_to_norm(19.6, values=784, latents=20)
        0.5
    """
    return beta * latents / values
