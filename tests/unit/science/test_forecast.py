"""The forecast against the same optimum found by scipy, and against what must hold of any."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, optimize

from tune_vae.science.forecast import LinearForecast
from tune_vae.science.likelihoods.discretized_gaussian import DiscretizedGaussian
from tune_vae.science.spectrum import Spectrum

EIGENVALUES = (6.0, 3.0, 1.0, 0.4, 0.1, 0.05)
VALUES, LATENTS = 12, 4
TAIL = 0.3
"""Variance beyond the directions that are known."""

SPECTRUM = Spectrum(EIGENVALUES, total=sum(EIGENVALUES) + TAIL, values=VALUES, rows=1000)


def optimum(beta: float, sigma: float | None) -> tuple[float, float, float]:
    """Rate, squared error and sigma of the best linear VAE, from the loss alone.

    Each direction is told with an error of its own, which costs half the logarithm of its
    variance over it (the rate-distortion function of a normal variable).
    """
    known = np.array(EIGENVALUES[:LATENTS])
    rest = SPECTRUM.total - known.sum()

    def parts(x: np.ndarray) -> tuple[float, float, float]:
        errors, variance = known * np.exp(-x[:LATENTS]), sigma**2 if sigma else np.exp(x[-1])
        return 0.5 * x[:LATENTS].sum(), errors.sum() + rest, variance

    def loss(x: np.ndarray) -> float:
        rate, error, variance = parts(x)
        return float(0.5 * VALUES * np.log(variance) + error / (2 * variance) + beta * rate)

    start = np.append(np.full(LATENTS, 0.5), -1.0)
    bounds = [(0, 30)] * LATENTS + [(-20, 5)]
    found = optimize.minimize(
        loss, start, bounds=bounds, options={"ftol": 1e-15, "gtol": 1e-10, "maxiter": 5000}
    )
    rate, error, variance = parts(found.x)
    return float(rate), float(error), math.sqrt(variance)


@pytest.mark.parametrize("sigma", [None, 0.3, 1.0])
@pytest.mark.parametrize("beta", [0.1, 0.7, 1.0, 2.5, 5.0, 9.0])
def test_rate_and_error_are_those_of_the_best_linear_model(
    beta: float, sigma: float | None
) -> None:
    outlook = LinearForecast(SPECTRUM, LATENTS).at(beta, sigma)
    rate, error, scale = optimum(beta, sigma)
    assert outlook.rate_nats == pytest.approx(rate, rel=1e-4, abs=1e-5)
    assert outlook.squared_error == pytest.approx(error, rel=1e-4)
    if sigma is None:
        assert outlook.sigma == pytest.approx(scale, rel=1e-4)


@pytest.mark.parametrize("sigma", [None, 0.3])
def test_latents_fall_silent_one_by_one_up_to_the_largest_eigenvalue(sigma: float | None) -> None:
    forecast = LinearForecast(SPECTRUM, LATENTS)
    point = EIGENVALUES[0] / (sigma**2 if sigma else SPECTRUM.total / VALUES)
    used = [forecast.at(point * x, sigma).used for x in (1e-4, 0.1, 0.5, 0.999, 1.001, 100)]
    assert used == sorted(used, reverse=True)
    assert (used[0], used[-3], used[-2:]) == (LATENTS, 1, [0, 0])
    dead = forecast.at(2 * point, sigma)
    assert (dead.rate_nats, dead.squared_error) == (0.0, pytest.approx(SPECTRUM.total))


@pytest.mark.parametrize("sigma", [None, 0.3])
def test_beta_is_the_inverse(sigma: float | None) -> None:
    forecast = LinearForecast(SPECTRUM, LATENTS)
    for beta in (0.01, 1.0, 3.0, 50.0):
        assert forecast.beta(forecast.at(beta, sigma), sigma) == pytest.approx(beta)


def test_bits_are_those_of_a_gaussian_of_levels_at_beta_1() -> None:
    """Of a centred normal variable without latents, by integrating its density."""
    spectrum = Spectrum((), total=3 * 0.04, values=3, rows=9)
    sigma = 0.2

    def nats(x: float) -> float:
        density = math.exp(-0.5 * (x / sigma) ** 2) / (sigma * math.sqrt(2 * math.pi))
        return -density * math.log(density / 255) if density else 0.0

    expected = integrate.quad(nats, -4, 4, points=[0.0])[0] / math.log(2)
    assert LinearForecast(spectrum, 0).at(1.0).bits_per_dim == pytest.approx(expected)
    for levels in (None, 2):
        assert math.isnan(LinearForecast(spectrum, 0, levels).at(1.0).bits_per_dim)


def test_bits_of_black_and_white_are_those_of_the_tails() -> None:
    """Of values at either end that are decoded with normal errors, by drawing them."""
    generator = torch.Generator().manual_seed(0)
    sigma, levels = 0.1, 256
    black = (torch.rand(200_000, generator=generator) < 0.5).double()
    # In the middle of grey, or at an end.
    x = torch.where(torch.rand(200_000, generator=generator) < 0.6, black, 128 / 255)
    edge = ((x == 0) | (x == 1)).double().mean().item()
    decoded = x + sigma * torch.randn(200_000, generator=generator, dtype=torch.float64)
    mass = DiscretizedGaussian(link="identity").log_mass(
        x, decoded[:, None], torch.tensor(sigma).log(), levels=levels
    )
    spectrum = Spectrum((), total=3 * sigma**2, values=3, rows=9)
    found = LinearForecast(spectrum, 0, levels, edge).at(1.0).bits_per_dim
    assert found == pytest.approx(-mass.mean().item() / math.log(2), rel=0.01)


def test_calibrated_bits_are_best_where_the_model_is() -> None:
    forecast = LinearForecast(SPECTRUM, LATENTS)
    best = forecast.at(1.0).bits_per_dim
    assert all(best < forecast.at(beta).bits_per_dim for beta in (0.5, 0.9, 1.1, 2.0))


def test_data_that_the_latents_tell_wholly_leave_the_least_scale() -> None:
    whole = LinearForecast(Spectrum((2.0, 1.0), total=3.0, values=4, rows=3), 3).at(1.0)
    assert whole.used == 2
    assert whole.sigma == pytest.approx(math.exp(-6), rel=0.5)
    assert math.isfinite(whole.bits_per_dim)


def test_data_that_do_not_vary_are_refused() -> None:
    with pytest.raises(ValueError, match="all examples are the same"):
        LinearForecast(Spectrum((0.0,), total=0.0, values=3, rows=5), 1)
