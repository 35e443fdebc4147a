r"""What latents are expected to be: the contract of every prior.

Shapes: B batch, M latent, C components.

Every prior here is a mixture of diagonal Gaussians; with one component it is a Gaussian, whose
rate has a closed form. With more the rate is estimated from the posterior's sample.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from tune_vae.science.elbo import rate_nats

__all__ = ["Components", "Encode", "Prior", "PriorModel"]

Encode = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From what an encoder sees, `BCHW`, to posterior means and log-variances, each `BM`."""


class Components(NamedTuple):
    """A mixture of diagonal Gaussians.

    Attributes:
        mean_CM, log_variance_CM: Of each component.
        log_weight_C: Logarithms of the weights, whose sum is 1.
    """

    mean_CM: Tensor
    log_variance_CM: Tensor
    log_weight_C: Tensor

    def rate_nats(self, mean_BM: Tensor, log_variance_BM: Tensor, latent_BM: Tensor) -> Tensor:
        r"""What a posterior says beyond this prior, per latent, shape `BM`.

        With one component the closed form of `elbo.rate_nats`. With more, the estimate
        $\log q(z|x) - \log p(z)$ at the posterior's sample z; it is split over the latents by
        the chain rule, $\log p(z) = \sum_m \log p(z_m | z_1 \dots z_{m-1})$, so that the sum
        over them is the estimate of the whole and each alone may be negative.
        """
        if len(self.log_weight_C) == 1:
            rate_BM = rate_nats(mean_BM, log_variance_BM, self.mean_CM, self.log_variance_CM)
            # The logarithm of the one weight is 0; subtracted, it has a gradient if it is learned.
            return rate_BM - self.log_weight_C
        posterior_BM = _log_normal(latent_BM, mean_BM, log_variance_BM)
        first_BM = self._log_prob_of_first(latent_BM)
        return posterior_BM - first_BM.diff(dim=1, prepend=torch.zeros_like(first_BM[:, :1]))

    def log_prob(self, latent_BM: Tensor) -> Tensor:
        """Log-density of each latent, shape `B`, nats."""
        return self._log_prob_of_first(latent_BM)[:, -1]

    def _log_prob_of_first(self, latent_BM: Tensor) -> Tensor:
        """Log-density of the first 1, 2, … M latents."""
        each_BCM = _log_normal(latent_BM[:, None], self.mean_CM, self.log_variance_CM)
        return (self.log_weight_C[:, None] + each_BCM.cumsum(-1)).logsumexp(1)

    def draw(self, noise_BM: Tensor, uniform_B: Tensor) -> Tensor:
        """Latents, `BM`.

        Arguments:
            noise_BM: Standard normal noise.
            uniform_B: Uniform noise in [0, 1), which chooses the components.
        """
        # Each component ends where the next begins; the last ends at 1, rounding or not.
        ends_C = self.log_weight_C.exp().cumsum(0)
        chosen_B = (uniform_B[:, None] >= ends_C[:-1]).sum(1)
        scale_BM = (0.5 * self.log_variance_CM[chosen_B]).exp()
        return self.mean_CM[chosen_B] + scale_BM * noise_BM


class PriorModel(nn.Module, ABC):
    """The part of a VAE that says what latents are expected."""

    @abstractmethod
    def forward(self, encode: Encode) -> Components:
        """The mixture as it stands; `encode` is the VAE's own encoder."""


class Prior(ABC):
    """Contract of a prior. Implementations are frozen dataclasses.

    Attributes:
        encodes: Whether it asks the encoder for examples of its own, which have no label that a
            conditional model could be told.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}
    encodes: ClassVar[bool] = False

    @abstractmethod
    def build(
        self, shape: tuple[int, int, int], latent_dim: int, *, counts: bool = False
    ) -> PriorModel:
        """A fresh prior, initialised from torch's global generator.

        Arguments:
            shape: C, H, W of one example.
            latent_dim: M, how many latents it is about.
            counts: What the encoder sees of an example: logarithms of counts, which are at
                least 0, or else values in [0, 1].
        """

    def pack_key(self) -> object:
        """What must be equal for two trials to train in one pack.

        A prior whose arguments are only numbers in buffers says so by answering its class.
        """
        return self


def _log_normal(value: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    away = (value - mean) * (-0.5 * log_variance).exp()
    return -0.5 * (away.square() + log_variance + math.log(2 * math.pi))
