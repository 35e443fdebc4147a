"""The standard normal distribution."""

from dataclasses import dataclass

from tune_vae.science.priors import Prior, PriorModel
from tune_vae.science.priors.normal import Normal

__all__ = ["Standard"]


@dataclass(frozen=True)
class Standard(Prior):
    r"""$p(z) = \mathcal N(0, 1)$ in every latent, the prior of the first VAE.

    References:
        | Auto-Encoding Variational Bayes (Kingma & Welling, 2014)
        | https://arxiv.org/abs/1312.6114

    Example:
        >>> Standard().build((1, 8, 8), 2)(lambda x: (x, x)).mean_CM
        tensor([[0., 0.]])
    """

    def build(
        self, shape: tuple[int, int, int], latent_dim: int, *, counts: bool = False
    ) -> PriorModel:
        return Normal().build(shape, latent_dim)

    def pack_key(self) -> object:
        return Normal().pack_key()
