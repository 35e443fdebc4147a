"""Rate and units."""

import math

import mpmath
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from tune_vae.science.elbo import beta_from_norm, beta_to_norm, bits_per_dim, rate_nats


def exact_rate(mean: float, log_variance: float) -> float:
    with mpmath.workdps(60):
        mean, log_variance = mpmath.mpf(mean), mpmath.mpf(log_variance)
        return float((mean**2 + mpmath.expm1(log_variance) - log_variance) / 2)


def test_rate_is_the_kl_divergence_of_torch(device: torch.device) -> None:
    generator = torch.Generator().manual_seed(0)
    mean = 3 * torch.randn(50, 4, generator=generator, dtype=torch.float64).to(device)
    log_variance = 3 * torch.randn(50, 4, generator=generator, dtype=torch.float64).to(device)
    posterior = Normal(mean, (0.5 * log_variance).exp())
    prior = Normal(torch.zeros_like(mean), torch.ones_like(mean))
    torch.testing.assert_close(rate_nats(mean, log_variance), kl_divergence(posterior, prior))


@pytest.mark.parametrize("mean", [0.0, 1e-6, 1e-3])
@pytest.mark.parametrize("log_variance", [0.0, 1e-7, -1e-4, 1e-2, -20.0, 20.0])
def test_rate_is_accurate_close_to_the_prior(mean: float, log_variance: float) -> None:
    got = rate_nats(
        torch.tensor(mean, dtype=torch.float64), torch.tensor(log_variance, dtype=torch.float64)
    )
    # What is left of float64 after 1e-4 is subtracted from 1e-4.
    assert got.item() == pytest.approx(exact_rate(mean, log_variance), rel=1e-9, abs=1e-20)


def test_rate_is_never_below_rounding() -> None:
    log_variance = torch.cat([torch.linspace(-1e-2, 1e-2, 20_001), torch.linspace(-90, 80, 999)])
    rate = rate_nats(torch.zeros_like(log_variance), log_variance)
    assert (rate >= -1e-9).all()
    assert rate.isfinite().all()


def test_bits_of_a_uniform_guess_are_the_bits_of_a_level() -> None:
    assert bits_per_dim(784 * math.log(256), values=784) == pytest.approx(8.0, rel=1e-12)
    assert bits_per_dim(64 * math.log(2), values=64) == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize("beta", [0.0, 1e-3, 1.0, 250.0])
def test_beta_survives_the_round_trip_through_its_norm(beta: float) -> None:
    norm = beta_to_norm(beta, values=784, latents=20)
    assert beta_from_norm(norm, values=784, latents=20) == pytest.approx(beta, rel=1e-12)


def test_norm_is_one_when_a_latent_weighs_as_much_as_a_value() -> None:
    assert beta_from_norm(1.0, values=100, latents=25) == 4.0
