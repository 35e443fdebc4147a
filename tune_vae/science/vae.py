"""One variational autoencoder.

Shapes: B batch, M latent, P parameters per value, C H W image.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from tune_vae.science.likelihoods import Domain, Likelihood
from tune_vae.science.networks import Network
from tune_vae.science.priors import Components, Prior
from tune_vae.science.priors.standard import Standard
from tune_vae.science.sigmas import Sigma
from tune_vae.science.sigmas.fixed import Fixed

__all__ = ["LOG_VARIANCE_BOUND", "VAE", "Terms"]

LOG_VARIANCE_BOUND = 16.0
"""The posterior's log-variance lies between minus and plus this. It cannot overflow, and far
from the bound it is what the encoder says: a standard deviation of 0.2 becomes 0.204."""


class Terms(NamedTuple):
    """What one forward pass says of a batch, before any weighting.

    Attributes:
        rate_BM: KL of the posterior from the prior per latent, nats; see
            `Components.rate_nats`.
        distortion_B: Negative log-likelihood summed over the data values, nats, and
            `scale_nats_B`.
        scale_nats_B: What it takes to state the decoder's scale, nats; mostly 0.
        mean_BM, log_variance_BM: Of the posterior.
        latent_BM: Its sample.
        params: What the decoder gave, `[B, P, C, H, W]`.
        log_sigma: Logarithm of the decoder's scale, broadcastable to the images.
    """

    rate_BM: Tensor
    distortion_B: Tensor
    scale_nats_B: Tensor
    mean_BM: Tensor
    log_variance_BM: Tensor
    latent_BM: Tensor
    params: Tensor
    log_sigma: Tensor


class VAE(nn.Module):
    """Encoder, decoder, prior, likelihood and scale of one model. Random numbers are given.

    Arguments:
        network: What builds encoder and decoder.
        likelihood: The decoder distribution.
        sigma: How its scale is set; needed when the likelihood has one, else ignored.
        shape: C, H, W of one image.
        latent_dim: M, at least 1.
        prior: What latents are expected; standard normal by default.

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
        prior: Prior | None = None,
    ) -> None:
        super().__init__()
        if likelihood.has_scale and sigma is None:
            raise ValueError(f"{type(likelihood).__name__} has a scale, so it needs a sigma mode")
        self.likelihood = likelihood
        self.shape = shape
        self.latent_dim = latent_dim
        mode = sigma if likelihood.has_scale and sigma else Fixed()
        self._outputs = likelihood.params_per_value + mode.params_per_value
        self.encoder, self.decoder = network.build(shape, latent_dim, self._outputs)
        self.scale = mode.build(shape)
        counts = Domain.COUNTS in likelihood.domains
        self.prior = (prior or Standard()).build(shape, latent_dim, counts=counts)

    def encode(self, x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Posterior means and log-variances, each `BM`."""
        return self._posterior(self.likelihood.features(x_BCHW))

    def _posterior(self, features_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        mean_BM, log_variance_BM = self.encoder(features_BCHW).chunk(2, dim=1)
        bound = LOG_VARIANCE_BOUND
        return mean_BM, bound * torch.tanh(log_variance_BM / bound)

    def expected(self) -> Components:
        """The prior as it stands."""
        components: Components = self.prior(self._posterior)
        return components

    def decode(self, latent_BM: Tensor, x_BCHW: Tensor | None = None) -> Tensor:
        """Parameters of the likelihood, `[B, P, C, H, W]`.

        Arguments:
            latent_BM: Latents.
            x_BCHW: The examples they stand for, of which a likelihood may want to know
                something; None for imagined ones.
        """
        return self._decode(latent_BM, x_BCHW)[0]

    def _decode(self, latent_BM: Tensor, x_BCHW: Tensor | None) -> tuple[Tensor, Tensor]:
        """Parameters of the likelihood, and what the sigma mode takes of the decoder."""
        # Not by `len`, which a trace would take for the number it had.
        batch = latent_BM.shape[0]
        out = self.decoder(latent_BM).reshape(batch, self._outputs, *self.shape)
        own = self.likelihood.params_per_value
        return self.likelihood.conditioned(out[:, :own], x_BCHW), out[:, own:]

    def forward(self, x_BCHW: Tensor, noise_BM: Tensor) -> Terms:
        """Rate and distortion of a batch, with the posterior sampled by `noise_BM` ~ N(0, 1)."""
        mean_BM, log_variance_BM = self.encode(x_BCHW)
        latent_BM = mean_BM + (0.5 * log_variance_BM).exp() * noise_BM
        params, free = self._decode(latent_BM, x_BCHW)
        log_sigma = self.scale(x_BCHW, params, free, self.likelihood)
        scale_nats_B = self.scale.code_nats(log_sigma).expand(len(x_BCHW))
        log_prob = self.likelihood.log_prob(x_BCHW, params, log_sigma)
        return Terms(
            rate_BM=self.expected().rate_nats(mean_BM, log_variance_BM, latent_BM),
            distortion_B=scale_nats_B - log_prob.flatten(1).sum(1),
            scale_nats_B=scale_nats_B,
            mean_BM=mean_BM,
            log_variance_BM=log_variance_BM,
            latent_BM=latent_BM,
            params=params,
            log_sigma=log_sigma,
        )

    @torch.no_grad()
    def reconstruct(self, x_BCHW: Tensor) -> Tensor:
        """Expected image when the latent is the posterior mean, `BCHW`, in units of the data."""
        return self.likelihood.mean(self.decode(self.encode(x_BCHW)[0], x_BCHW))

    @torch.no_grad()
    def generate(self, count: int, *, seed: int = 0) -> Tensor:
        """Expected images of `count` latents drawn from the prior, `BCHW`."""
        return self.likelihood.mean(self.decode(self.imagine(count, seed=seed)))

    @torch.no_grad()
    def imagine(self, count: int, *, seed: int = 0) -> Tensor:
        """Latents drawn from the prior, `BM`."""
        generator = torch.Generator().manual_seed(seed)
        noise_BM = torch.randn(count, self.latent_dim, generator=generator)
        uniform_B = torch.rand(count, generator=generator)
        like = next(self.parameters())
        return self.expected().draw(noise_BM.to(like), uniform_B.to(like))
