"""The calibrated bits per dimension, the currency in which all trials are paid."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.stats import norm
from scipy.stats import t as student_t
from torch import Tensor

from tests.discovery import component_classes
from tune_vae.data import Splits, scale
from tune_vae.science.evaluation import calibrated_log_sigma, score
from tune_vae.science.likelihoods import Domain, Likelihood
from tune_vae.science.likelihoods.gaussian import Gaussian
from tune_vae.science.networks.mlp import Mlp
from tune_vae.science.sigmas.fixed import Fixed
from tune_vae.science.units import bits_per_dim
from tune_vae.science.vae import VAE

IMAGES = 100
LIKELIHOODS = [make() for make in component_classes("science.likelihoods")]
OF_GREY_LEVELS = [one for one in LIKELIHOODS if Domain.of(17) in one.domains]


def build(likelihood: Likelihood) -> VAE:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return VAE(
            network=Mlp(hidden=(16,)),
            likelihood=likelihood,
            sigma=Fixed(),
            shape=(1, 8, 8),
            latent_dim=4,
        ).eval()


def oracle(x: np.ndarray, mean: np.ndarray, levels: int) -> tuple[float, float]:
    """The best log sigma and what it costs per value, by scipy alone."""
    half = 0.5 / (levels - 1)
    low = np.where(x <= half, -np.inf, x - half - mean)
    high = np.where(x >= 1 - half, np.inf, x + half - mean)
    # By symmetry in the lower tail, where the differences keep their digits.
    low, high = np.where(low + high > 0, -high, low), np.where(low + high > 0, -low, high)

    def cost(log_sigma: float) -> float:
        sigma = math.exp(log_sigma)
        return -np.log(norm.cdf(high / sigma) - norm.cdf(low / sigma)).mean()

    best = minimize_scalar(cost, bounds=(-8, 3), method="bounded", options={"xatol": 1e-9})
    return best.x, best.fun


def sample(digits: Splits) -> tuple[Tensor, Tensor]:
    noise = torch.randn(IMAGES, 4, generator=torch.Generator().manual_seed(0))
    return scale(digits.train[:IMAGES], digits.levels), noise


def calibrated(x: Tensor, mean: Tensor) -> tuple[float, float]:
    """The scale that is found for a decoder whose bias is `mean`, and what a value then costs."""
    vae = build(Gaussian(link="identity"))
    with torch.no_grad():
        vae.decoder[-1].weight.zero_()
        vae.decoder[-1].bias.copy_(mean.flatten())
        got = calibrated_log_sigma(vae, x, torch.zeros(1, 4), levels=17)
        paid = score(vae, x, torch.zeros(1, 4), got, levels=17).calibrated_nats_B.item() / 64
    return got.item(), paid


@pytest.mark.parametrize("levels", [17, 256])
def test_calibrated_scale_is_the_argmin(digits: Splits, levels: int) -> None:
    vae, (x, noise) = build(Gaussian()), sample(digits)
    x = (x * (levels - 1)).round() / (levels - 1)
    with torch.no_grad():
        mean = vae.likelihood.mean(vae(x, noise).params)
        got = calibrated_log_sigma(vae, x, noise, levels=levels)
        paid = score(vae, x, noise, got, levels=levels).calibrated_nats_B.mean().item() / 64
    best, least = oracle(x.double().numpy(), mean.double().numpy(), levels)
    assert got.item() == pytest.approx(best, abs=0.005)
    assert least - 1e-6 <= paid <= least + 1e-5


@pytest.mark.parametrize("error", [0.0, 0.01, 0.03, 0.1])
def test_calibrated_scale_of_a_good_decoder_is_the_argmin_or_as_cheap(error: float) -> None:
    """A model of one image, whose decoder's bias is that image and some error.

    Where every mean lies in its own bin, the best scale is 0; a quarter of what a bin hides is
    close enough to pay next to nothing.
    """
    generator = torch.Generator().manual_seed(0)
    x = (0.1 + 0.8 * torch.rand(1, 1, 8, 8, generator=generator)).mul(16).round() / 16
    mean = x + error * torch.randn(x.shape, generator=generator)
    got, paid = calibrated(x, mean)
    best, least = oracle(x.double().numpy(), mean.double().numpy(), 17)
    assert paid == pytest.approx(least, abs=1e-2 if error < 0.02 else 1e-5)
    if error > 0.02:
        assert got == pytest.approx(best, abs=0.005)


@pytest.mark.parametrize("error", [0.01, 0.02, 0.1])
def test_calibrated_scale_of_a_decoder_that_is_far_off_at_times_is_as_cheap(error: float) -> None:
    """Most means in their bins, some many bins away: the likelihood is no Gaussian's."""
    x = torch.linspace(0.1, 0.9, 64).mul(16).round().reshape(1, 1, 8, 8) / 16
    mean = x + error * torch.from_numpy(
        student_t.rvs(2.5, size=x.shape, random_state=np.random.default_rng(0))
    )
    _, paid = calibrated(x, mean)
    _, least = oracle(x.double().numpy(), mean.double().numpy(), 17)
    assert paid == pytest.approx(least, abs=1e-4)


@pytest.mark.parametrize("likelihood", OF_GREY_LEVELS, ids=repr)
def test_untrained_model_pays_a_finite_price_near_a_blind_guess(
    digits: Splits, likelihood: Likelihood
) -> None:
    vae, (x, noise) = build(likelihood), sample(digits)
    with torch.no_grad():
        fitted = calibrated_log_sigma(vae, x, noise, levels=17)
        scores = score(vae, x, noise, fitted, levels=17)
    nats = (scores.rate_BM.sum(1) + scores.calibrated_nats_B).mean().item()
    assert 2 < bits_per_dim(nats, values=64) < math.log2(17) + 0.5


def test_scale_fitted_elsewhere_can_only_cost_more(digits: Splits) -> None:
    vae, (x, noise) = build(Gaussian()), sample(digits)
    with torch.no_grad():
        fitted = calibrated_log_sigma(vae, x, noise, levels=17)
        costs = [
            score(vae, x, noise, fitted + shift, levels=17).calibrated_nats_B.mean().item()
            for shift in (-0.1, 0.0, 0.1)
        ]
    assert min(costs) == costs[1]
