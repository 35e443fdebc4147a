r"""What a few examples tell of a model's health, cheap enough for every epoch.

Shapes: n probes (examples), M latent, C H W image.
"""

from typing import NamedTuple

from torch import Tensor

from tune_vae.science.information import decoder_sensitivity, information
from tune_vae.science.vae import LOG_VARIANCE_BOUND, VAE

__all__ = ["PROBES", "Signals", "signals"]

PROBES = 256
"""Most examples that are looked at. The information they can show ends at ln 256 = 5.5 nats."""

AT_BOUND = 0.99


class Signals(NamedTuple):
    """Signs of health, float64 scalars.

    Attributes:
        explained_variance: Share of the data's variance that is gone from the error of the
            reconstruction: 0 for one constant image, negative for worse.
        mutual_information_nats, mutual_information_error_nats: What a latent tells of its
            example, and the standard error; see `information`.
        decoder_sensitivity: See the function of this name.
        mean_variance: Largest variance, over the latents, of a posterior's mean.
        at_bound: Share of posterior log-variances within 1 % of their bound.
    """

    explained_variance: Tensor
    mutual_information_nats: Tensor
    mutual_information_error_nats: Tensor
    decoder_sensitivity: Tensor
    mean_variance: Tensor
    at_bound: Tensor


def signals(
    vae: VAE,
    x_nCHW: Tensor,
    noise_nM: Tensor,
    constant_CHW: Tensor,
    label_n: Tensor | None = None,
) -> Signals:
    r"""Signs of health of a model in evaluation mode.

    $$ R^2 = 1 - \frac{\sum_i \| x_i - m(z_i) \|^2}{\sum_i \| x_i - c \|^2},\quad
       z_i \sim q(z|x_i) $$

    Arguments:
        vae: The model.
        x_nCHW: Probes in random order, at least 2 and not all the same.
        noise_nM: Standard normal noise of the posterior sample; the same for all trials.
        constant_CHW: c, the mean of the training images: the constant image of least error.
        label_n: Classes of the probes, for a conditional model.
    """
    terms = vae(x_nCHW, noise_nM, label_n)
    image = vae.likelihood.mean(terms.params)
    other = vae.likelihood.mean(vae.decode(terms.latent_BM.roll(1, 0), x_nCHW, label_n))
    mean, log_variance = terms.mean_BM.double(), terms.log_variance_BM.double()
    told = information(terms.latent_BM, mean, log_variance, terms.rate_BM.sum(1)).mutual
    x = x_nCHW.double()
    error = (x - image.double()).square().sum()
    spread = (x - constant_CHW.double()).square().sum()
    return Signals(
        explained_variance=1 - error / spread,
        mutual_information_nats=told.value,
        mutual_information_error_nats=told.error,
        decoder_sensitivity=decoder_sensitivity(image, other, x),
        mean_variance=mean.var(0, correction=0).amax(),
        at_bound=(log_variance.abs() > AT_BOUND * LOG_VARIANCE_BOUND).double().mean(),
    )
