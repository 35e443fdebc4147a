"""One variational autoencoder.

Shapes: B batch, M latent, P parameters per value, C H W image.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from tune_vae.science.elbo import rate_nats
from tune_vae.science.likelihoods import Likelihood
from tune_vae.science.networks import Network
from tune_vae.science.sigmas import Sigma
from tune_vae.science.sigmas.fixed import Fixed

__all__ = ["VAE", "Terms"]


class Terms(NamedTuple):
    """What one forward pass says of a batch, before any weighting.

    Attributes:
        rate_BM: KL of the posterior from the prior per latent, nats.
        distortion_B: Negative log-likelihood summed over the data values, nats.
        mean_BM: Posterior means.
        params: What the decoder gave, `[B, P, C, H, W]`.
        log_sigma: Logarithm of the decoder's scale, broadcastable to the images.
    """

    rate_BM: Tensor
    distortion_B: Tensor
    mean_BM: Tensor
    params: Tensor
    log_sigma: Tensor


class VAE(nn.Module):
    """Encoder, decoder, likelihood and scale of one model. Random numbers are given, not drawn.

    Arguments:
        network: What builds encoder and decoder.
        likelihood: The decoder distribution.
        sigma: How its scale is set; needed when the likelihood has one, else ignored.
        shape: C, H, W of one image.
        latent_dim: M, at least 1.

    Raises:
        ValueError: The likelihood has a scale and `sigma` is None, or the network does not fit.
    """

    def __init__(
        self,
        *,
        network: Network,
        likelihood: Likelihood,
        sigma: Sigma | None,
        shape: tuple[int, int, int],
        latent_dim: int,
    ) -> None:
        super().__init__()
        if likelihood.has_scale and sigma is None:
            raise ValueError(f"{type(likelihood).__name__} has a scale, so it needs a sigma mode")
        self.likelihood = likelihood
        self.shape = shape
        self.latent_dim = latent_dim
        self.encoder, self.decoder = network.build(shape, latent_dim, likelihood.params_per_value)
        self.scale = (sigma if likelihood.has_scale and sigma else Fixed()).build(shape)

    def encode(self, x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Posterior means and log-variances, each `BM`."""
        mean_BM, log_variance_BM = self.encoder(x_BCHW).chunk(2, dim=1)
        return mean_BM, log_variance_BM

    def decode(self, latent_BM: Tensor) -> Tensor:
        """Parameters of the likelihood, `[B, P, C, H, W]`."""
        out: Tensor = self.decoder(latent_BM)
        return out.reshape(len(latent_BM), self.likelihood.params_per_value, *self.shape)

    def forward(self, x_BCHW: Tensor, noise_BM: Tensor) -> Terms:
        """Rate and distortion of a batch, with the posterior sampled by `noise_BM` ~ N(0, 1)."""
        mean_BM, log_variance_BM = self.encode(x_BCHW)
        params = self.decode(mean_BM + (0.5 * log_variance_BM).exp() * noise_BM)
        log_sigma = self.scale(x_BCHW, params, self.likelihood)
        log_prob = self.likelihood.log_prob(x_BCHW, params, log_sigma)
        return Terms(
            rate_BM=rate_nats(mean_BM, log_variance_BM),
            distortion_B=-log_prob.flatten(1).sum(1),
            mean_BM=mean_BM,
            params=params,
            log_sigma=log_sigma,
        )

    @torch.no_grad()
    def reconstruct(self, x_BCHW: Tensor) -> Tensor:
        """Expected image when the latent is the posterior mean, `BCHW`, in [0, 1] data units."""
        return self.likelihood.mean(self.decode(self.encode(x_BCHW)[0]))

    @torch.no_grad()
    def generate(self, count: int, *, seed: int = 0) -> Tensor:
        """Expected images of `count` latents drawn from the prior, `BCHW`."""
        generator = torch.Generator().manual_seed(seed)
        latent_BM = torch.randn(count, self.latent_dim, generator=generator)
        latent_BM = latent_BM.to(next(self.parameters()))
        return self.likelihood.mean(self.decode(latent_BM))
