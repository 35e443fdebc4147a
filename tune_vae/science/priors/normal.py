"""A normal distribution of given place and width."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tune_vae.science.priors import Components, Encode, Prior, PriorModel

__all__ = ["Normal"]


@dataclass(frozen=True)
class Normal(Prior):
    r"""$p(z) = \mathcal N(m, s^2)$ in every latent; with s above 1 a dispersed prior.

    A network can undo any choice of m and s by scaling its latents; what the prior changes is
    where training starts: with a wide one the untrained posterior is far from it.

    Arguments:
        mean: m, finite.
        scale: s, positive and finite.

    Example:
        >>> Normal(scale=2.0).build((1, 8, 8), 2)(lambda x: (x, x)).log_variance_CM
        tensor([[1.3863, 1.3863]])
    """

    mean: float = 0.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.mean):
            raise ValueError(f"mean must be finite, got {self.mean}")
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise ValueError(f"scale must be positive and finite, got {self.scale}")

    def build(
        self, shape: tuple[int, int, int], latent_dim: int, *, counts: bool = False
    ) -> PriorModel:
        return NormalPrior(self.mean, 2 * math.log(self.scale), latent_dim)

    def pack_key(self) -> object:
        return Normal


class NormalPrior(PriorModel):
    mean: Tensor
    log_variance: Tensor

    def __init__(self, mean: float, log_variance: float, latent_dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.full((1, latent_dim), mean))
        self.register_buffer("log_variance", torch.full((1, latent_dim), log_variance))

    def forward(self, encode: Encode) -> Components:
        return Components(self.mean, self.log_variance, torch.zeros_like(self.mean[:, 0]))
