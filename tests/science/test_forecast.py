r"""The forecast against linear networks that were trained to convergence.

The expectation over the noise is exact at every step: the distortion is quadratic in the noise,
so its mean over $\pm\sqrt M$ along each axis is its expectation.

Shapes: K member of a pack, n examples, B their copies with each noise, N values, M latents.
"""

import math
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from tune_vae.science.forecast import LinearForecast
from tune_vae.science.likelihoods.gaussian import Gaussian
from tune_vae.science.networks.mlp import Mlp
from tune_vae.science.sigmas import Sigma
from tune_vae.science.sigmas.fixed import Fixed
from tune_vae.science.sigmas.optimal import Optimal
from tune_vae.science.spectrum import spectrum
from tune_vae.science.vae import VAE
from tune_vae.training.pack import Knobs, Pack, fresh_row

SHAPE, LATENTS = (1, 2, 4), 3
PLAN = ((0.03, 500), (0.01, 500), (0.003, 300))
"""Learning rates, and so many steps with each."""
EIGENVALUES = torch.tensor([16.0, 8.0, 4.0, 0.8, 0.6, 0.4, 0.2, 0.1]).double()
RATIOS = (0.02, 0.05, 0.1, 0.18, 0.35, 0.7, 0.9, 0.96, 1.04, 1.1)
"""KL weights in units of the collapse point."""


def data() -> Tensor:
    """Eight values whose covariance has these eigenvalues to the last digit.

    They are well apart, so that a network finds the directions soon, and so large that the soft
    lower bound of a fitted scale does not matter.
    """
    generator = torch.Generator().manual_seed(0)
    raw_nN = torch.randn(32, 8, generator=generator, dtype=torch.float64)
    white_nN = torch.linalg.qr(raw_nN - raw_nN.mean(0)).Q * math.sqrt(32)
    turn_NN = torch.linalg.qr(torch.randn(8, 8, generator=generator, dtype=torch.float64)).Q
    return ((white_nN * EIGENVALUES.sqrt()) @ turn_NN + 1.0).view(32, *SHAPE)


def build(seed: int, sigma: Sigma) -> VAE:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return VAE(
            network=Mlp(hidden=()),
            likelihood=Gaussian(link="identity"),
            sigma=sigma,
            shape=SHAPE,
            latent_dim=LATENTS,
        ).double()


class Trained(NamedTuple):
    """What the networks came to: rate of each latent, squared error and scale."""

    rate_KM: Tensor
    error_K: Tensor
    scale_K: Tensor


def trained(x_nCHW: Tensor, sigma: Sigma, betas: list[float]) -> Trained:
    axes = math.sqrt(LATENTS) * torch.eye(LATENTS, dtype=torch.float64)
    noise_BM = torch.cat([axes, -axes]).repeat_interleave(len(x_nCHW), 0)
    x_BCHW = x_nCHW.repeat(2 * LATENTS, 1, 1, 1)
    inputs = [part.expand(len(betas), *part.shape) for part in (x_BCHW, noise_BM)]
    rows = [fresh_row(build(k, sigma)) for k in range(len(betas))]
    for lr, steps in PLAN:
        pack = Pack(build(0, sigma), rows, [Knobs(beta, lr, 0.0, math.inf) for beta in betas])
        for _ in range(steps):
            pack.step(*inputs, torch.ones(len(betas), dtype=torch.float64))
        rows = [pack.row(k) for k in range(len(betas))]
    terms = pack.evaluate(VAE.__call__, *inputs, in_dims=(0, 0))
    error_K = (terms.params[:, :, 0] - inputs[0]).square().flatten(2).sum(2).mean(1)
    scale_K = terms.log_sigma.exp().reshape(len(betas), -1).mean(1)
    return Trained(terms.rate_BM.mean(1), error_K, scale_K)


@pytest.mark.parametrize("sigma", [Fixed(0.7), Optimal()], ids=["fixed", "optimal"])
def test_trained_linear_networks_do_what_is_forecast(sigma: Sigma) -> None:
    x = data()
    variance = sigma.sigma**2 if isinstance(sigma, Fixed) else EIGENVALUES.mean().item()
    point = EIGENVALUES[0].item() / variance
    forecast = LinearForecast(spectrum([x], 8), LATENTS)
    betas = [ratio * point for ratio in RATIOS]
    found = trained(x, sigma, betas)
    for k, beta in enumerate(betas):
        rate_M, error, scale = (part[k] for part in found)
        outlook = forecast.at(beta, sigma.sigma if isinstance(sigma, Fixed) else None)
        if isinstance(sigma, Optimal):
            assert scale.item() == pytest.approx(outlook.sigma, rel=0.03)
        assert rate_M.sum().item() == pytest.approx(outlook.rate_nats, rel=0.03, abs=4e-3)
        assert error.item() == pytest.approx(outlook.squared_error, rel=0.03)
        assert int((rate_M > 5e-3).sum()) == outlook.used
        # The collapse lies between adjacent weights of the grid.
        assert (rate_M.sum().item() > 5e-3) == (beta < point)
