"""Linear models, whose elbo can be calculated.

Shapes: B batch, M latents.
"""

import math

import torch
from torch import Tensor

from tune_vae.science.likelihoods.gaussian import Gaussian
from tune_vae.science.networks.mlp import Mlp
from tune_vae.science.sigmas.fixed import Fixed
from tune_vae.science.vae import VAE

__all__ = ["LATENTS", "SIGMA", "elbo", "linear_vae"]

LATENTS, SIGMA = 3, 0.5


def linear_vae(
    seed: int, shape: tuple[int, int, int], *, spread: float = 1.0, classes: int = 0
) -> VAE:
    """All weights normal with the deviation `spread`; in double precision."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vae = VAE(
            network=Mlp(hidden=()),
            likelihood=Gaussian(link="identity"),
            sigma=Fixed(sigma=SIGMA),
            shape=shape,
            latent_dim=LATENTS,
            classes=classes,
        ).double()
        with torch.no_grad():
            for parameter in vae.parameters():
                parameter.copy_(spread * torch.randn_like(parameter))
    return vae


@torch.no_grad()
def elbo(vae: VAE, x: Tensor, label: Tensor | None = None) -> Tensor:
    """The expectation over the noise, exactly, `B`.

    The distortion is quadratic in the noise, so its mean over ±sqrt(M) along each axis is its
    expectation.
    """
    axes = math.sqrt(LATENTS) * torch.eye(LATENTS, dtype=torch.float64)
    terms = [vae(x, point.expand(len(x), -1), label) for point in torch.cat([axes, -axes])]
    distortion_B = torch.stack([term.distortion_B for term in terms]).mean(0)
    return -(distortion_B + terms[0].rate_BM.sum(1))
