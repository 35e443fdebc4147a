"""A mixture of normal distributions that is learned with the weights."""

import math
from dataclasses import dataclass

import torch
from torch import nn

from tune_vae.science.priors import Components, Encode, Prior, PriorModel

__all__ = ["Mixture"]


@dataclass(frozen=True)
class Mixture(Prior):
    r"""$p(z) = \sum_c \pi_c \mathcal N(z; m_c, \mathrm{diag}\,s_c^2)$ with all three learned.

    Training starts from equal weights, means $m_c \sim \mathcal N(0, a^2)$ and variances
    $1 - a^2$, where a is the spread. So whatever the spread, the mixture starts out with the
    mean and the variance of a standard normal, but for the few means that were drawn.

    With more than one component the rate is an estimate; see `Components.rate_nats`.

    References:
        | VAE with a VampPrior (Tomczak & Welling, 2018), which calls it the MoG prior
        | https://arxiv.org/abs/1705.07120

    Arguments:
        components: C, at least 1; with one it is a normal distribution that is learned.
        spread: a, above 0 and below 1. Near 0 the components are alike and learn alike.

    Example:
        >>> prior = Mixture(components=3, spread=0.6).build((1, 8, 8), 2)
        >>> prior(lambda x: (x, x)).log_variance_CM.exp()
        tensor([[0.6400, 0.6400],
                [0.6400, 0.6400],
                [0.6400, 0.6400]], grad_fn=<ExpBackward0>)
    """

    components: int = 10
    spread: float = 0.5

    def __post_init__(self) -> None:
        if self.components < 1:
            raise ValueError(f"components must be at least 1, got {self.components}")
        if not 0 < self.spread < 1:
            raise ValueError(f"spread must be above 0 and below 1, got {self.spread}")

    def build(
        self, shape: tuple[int, int, int], latent_dim: int, *, counts: bool = False
    ) -> PriorModel:
        return MixturePrior(self.components, self.spread, latent_dim)

    def pack_key(self) -> object:
        return Mixture, self.components


class MixturePrior(PriorModel):
    def __init__(self, components: int, spread: float, latent_dim: int) -> None:
        super().__init__()
        size = (components, latent_dim)
        self.mean = nn.Parameter(spread * torch.randn(size))
        self.log_variance = nn.Parameter(torch.full(size, math.log1p(-(spread**2))))
        self.logits = nn.Parameter(torch.zeros(components))

    def forward(self, encode: Encode) -> Components:
        return Components(self.mean, self.log_variance, self.logits.log_softmax(0))
