"""One variational autoencoder.

Shapes: B batch, M latent, P parameters per value, C H W image, Y classes.
"""

import contextlib
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tune_vae.science.likelihoods import Domain, Likelihood
from tune_vae.science.networks import Network
from tune_vae.science.precision import Products
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

    A conditional model is a model of examples given their label: encoder and decoder both are
    told it, the encoder by Y more channels that are 1 for the label's class and 0 for the others,
    the decoder by as many numbers beside the latents. The prior does not depend on it.

    References:
        | Learning Structured Output Representation using Deep Conditional Generative Models
          (Sohn et al., 2015)
        | https://papers.nips.cc/paper/2015/hash/8d55a249e6baa5c06772297520da2051-Abstract.html

    Arguments:
        network: What builds encoder and decoder.
        likelihood: The decoder distribution.
        sigma: How its scale is set; needed when the likelihood has one, else ignored.
        shape: C, H, W of one image.
        latent_dim: M, at least 1.
        prior: What latents are expected; standard normal by default.
        classes: Y, for a conditional model; 0 for one that is told no labels and ignores them.
        precision: Of the products in encoder and decoder, such as bfloat16; all else is as the
            parameters are. None for the same. May be changed later.

    Raises:
        ValueError: The likelihood has a scale and `sigma` is None, the network does not fit, or
            the prior needs an encoder that is not conditional.
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
        classes: int = 0,
        precision: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if likelihood.has_scale and sigma is None:
            raise ValueError(f"{type(likelihood).__name__} has a scale, so it needs a sigma mode")
        self.likelihood = likelihood
        self.shape = shape
        self.latent_dim = latent_dim
        self.classes = classes
        self.precision = precision
        mode = sigma if likelihood.has_scale and sigma else Fixed()
        self._outputs = likelihood.params_per_value + mode.params_per_value
        self.encoder, self.decoder = network.build(shape, latent_dim, self._outputs)
        if classes:
            channels, *size = shape
            wider = (channels + classes, size[0], size[1])
            self.encoder, _ = network.build(wider, latent_dim, self._outputs)
            _, self.decoder = network.build(shape, latent_dim + classes, self._outputs)
        self.scale = mode.build(shape)
        counts = Domain.COUNTS in likelihood.domains
        expected = prior or Standard()
        if classes and expected.encodes:
            raise ValueError(f"{type(expected).__name__} is no prior of a conditional model")
        self.prior = expected.build(shape, latent_dim, counts=counts)

    def encode(self, x_BCHW: Tensor, label_B: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Posterior means and log-variances, each `BM`.

        Arguments:
            x_BCHW: Examples.
            label_B: Their classes, int64, for a conditional model; others ignore them, here and
                wherever labels are given.
        """
        return self._posterior(self.likelihood.features(x_BCHW), label_B)

    def _posterior(
        self, features_BCHW: Tensor, label_B: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        if self.classes:
            told_BY11 = self._told(label_B, features_BCHW)[..., None, None]
            planes_BYHW = told_BY11.expand(-1, -1, *self.shape[1:])
            features_BCHW = torch.cat([features_BCHW, planes_BYHW], dim=1)
        out = self._run(self.encoder, features_BCHW)
        mean_BM, log_variance_BM = out.chunk(2, dim=1)
        bound = LOG_VARIANCE_BOUND
        return mean_BM, bound * torch.tanh(log_variance_BM / bound)

    def _run(self, network: nn.Module, given: Tensor) -> Tensor:
        """A network with its products in `precision`; rates and likelihoods are not."""
        with Products(self.precision) if self.precision else contextlib.nullcontext():
            out: Tensor = network(given)
        return out.to(given.dtype)

    def _told(self, label_B: Tensor | None, like: Tensor) -> Tensor:
        """Labels as numbers: 1 for the class, 0 for the others, `BY`."""
        if label_B is None:
            raise ValueError("a conditional model must be told the label of each example")
        class_Y = torch.arange(self.classes, device=label_B.device)
        return (label_B[:, None] == class_Y).to(like)

    def expected(self) -> Components:
        """The prior as it stands."""
        components: Components = self.prior(self._posterior)
        return components

    def decode(
        self, latent_BM: Tensor, x_BCHW: Tensor | None = None, label_B: Tensor | None = None
    ) -> Tensor:
        """Parameters of the likelihood, `[B, P, C, H, W]`.

        Arguments:
            latent_BM: Latents.
            x_BCHW: The examples they stand for, of which a likelihood may want to know
                something; None for imagined ones.
            label_B: Their classes; see `encode`.
        """
        return self._decode(latent_BM, x_BCHW, label_B)[0]

    def _decode(
        self, latent_BM: Tensor, x_BCHW: Tensor | None, label_B: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Parameters of the likelihood, and what the sigma mode takes of the decoder."""
        if self.classes:
            latent_BM = torch.cat([latent_BM, self._told(label_B, latent_BM)], dim=1)
        # Not by `len`, which a trace would take for the number it had.
        batch = latent_BM.shape[0]
        out = self._run(self.decoder, latent_BM)
        out = out.reshape(batch, self._outputs, *self.shape)
        own = self.likelihood.params_per_value
        return self.likelihood.conditioned(out[:, :own], x_BCHW), out[:, own:]

    def forward(self, x_BCHW: Tensor, noise_BM: Tensor, label_B: Tensor | None = None) -> Terms:
        """Rate and distortion of a batch, with the posterior sampled by `noise_BM` ~ N(0, 1)."""
        mean_BM, log_variance_BM = self.encode(x_BCHW, label_B)
        latent_BM = mean_BM + (0.5 * log_variance_BM).exp() * noise_BM
        params, free = self._decode(latent_BM, x_BCHW, label_B)
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
    def reconstruct(self, x_BCHW: Tensor, label_B: Tensor | None = None) -> Tensor:
        """Expected image when the latent is the posterior mean, `BCHW`, in units of the data."""
        mean_BM, _ = self.encode(x_BCHW, label_B)
        return self.likelihood.mean(self.decode(mean_BM, x_BCHW, label_B))

    @torch.no_grad()
    def generate(
        self, count: int, *, seed: int = 0, labels: Sequence[int] | Tensor | None = None
    ) -> Tensor:
        """Expected images of `count` latents drawn from the prior, `BCHW`.

        Arguments:
            count: How many.
            seed: Of the latents.
            labels: Of a conditional model, the class of each; by default the classes in turn.

        Raises:
            ValueError: As many labels as images are needed, each of a class that there is.

        Example:
            vae.generate(8, labels=[3] * 8)
        """
        latent_BM = self.imagine(count, seed=seed)
        label_B = torch.arange(count) % max(1, self.classes)
        if labels is not None:
            label_B = torch.as_tensor(labels, dtype=torch.int64)
            if label_B.shape != (count,) or not all(0 <= y < self.classes for y in label_B):
                known = f"0 to {self.classes - 1}" if self.classes else "none, as it was told none"
                raise ValueError(f"give {count} labels; this model knows {known}")
        return self.likelihood.mean(self.decode(latent_BM, label_B=label_B.to(latent_BM.device)))

    @torch.no_grad()
    def imagine(self, count: int, *, seed: int = 0) -> Tensor:
        """Latents drawn from the prior, `BM`."""
        generator = torch.Generator().manual_seed(seed)
        noise_BM = torch.randn(count, self.latent_dim, generator=generator)
        uniform_B = torch.rand(count, generator=generator)
        like = next(self.parameters())
        return self.expected().draw(noise_BM.to(like), uniform_B.to(like))
