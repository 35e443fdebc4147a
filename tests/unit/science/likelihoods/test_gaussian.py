"""The Gaussian against scipy and against arithmetic with 60 digits."""

import math

import mpmath
import pytest
import torch
from scipy.special import expit
from scipy.stats import norm

from tune_vae.science.bins import gaussian_log_mass
from tune_vae.science.likelihoods.gaussian import Gaussian

LOGITS = [-80.0, -3.0, -1e-7, 0.0, 0.7, 3.0, 80.0]


@pytest.mark.parametrize(
    ("dtype", "relative", "absolute"),
    [(torch.float64, 1e-9, 1e-12), (torch.float32, 2e-4, 1e-5)],
    ids=str,
)
@pytest.mark.parametrize("sigma", [1e-6, 0.1, 1.0, 20.0])
@pytest.mark.parametrize("x", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("link", ["sigmoid", "identity"])
def test_log_prob_agrees_with_scipy(
    link: str, x: float, sigma: float, dtype: torch.dtype, relative: float, absolute: float
) -> None:
    params = torch.tensor(LOGITS, dtype=dtype)[:, None, None]
    log_sigma = torch.tensor(math.log(sigma), dtype=dtype)
    got = Gaussian(link=link).log_prob(
        torch.full((len(LOGITS), 1), x, dtype=dtype), params, log_sigma
    )
    location = params.flatten().double().numpy()
    mean = expit(location) if link == "sigmoid" else location
    exact = norm.logpdf(x, loc=mean, scale=log_sigma.double().exp().item())
    assert got.flatten().tolist() == pytest.approx(exact.tolist(), rel=relative, abs=absolute)


def exact_log_mass(low: float, high: float, mean: float, sigma: float) -> float:
    if low + high < 2 * mean:  # The upper tail loses no digits, so reflect the lower one.
        return exact_log_mass(-high, -low, -mean, sigma)
    with mpmath.workdps(60):
        scale = mpmath.mpf(sigma) * mpmath.sqrt(2)
        ends = [(mpmath.mpf(end) - mpmath.mpf(mean)) / scale for end in (low, high)]
        return float(mpmath.log((mpmath.erfc(ends[0]) - mpmath.erfc(ends[1])) / 2))


@pytest.mark.parametrize("mean", [-0.4, 0.0, 1e-9, 0.5, 0.501, 1.0, 2.0])
@pytest.mark.parametrize("log_sigma", [-4.0, -3.3, -1.0, 0.0, 4.0])
@pytest.mark.parametrize("levels", [2, 17, 256])
def test_log_mass_agrees_with_exact_arithmetic(levels: int, log_sigma: float, mean: float) -> None:
    chosen = sorted({0, 1, levels // 2, levels - 1})
    got = gaussian_log_mass(
        torch.tensor(chosen, dtype=torch.float64) / (levels - 1),
        torch.tensor(mean, dtype=torch.float64),
        torch.tensor(log_sigma, dtype=torch.float64),
        levels=levels,
    )
    half = 0.5 / (levels - 1)
    exact = [
        exact_log_mass(
            -math.inf if level == 0 else level / (levels - 1) - half,
            math.inf if level == levels - 1 else level / (levels - 1) + half,
            mean,
            math.exp(log_sigma),
        )
        for level in chosen
    ]
    assert got.tolist() == pytest.approx(exact, rel=1e-9, abs=1e-12)


def test_log_mass_is_finite_far_from_the_mean_of_a_sharp_pixel() -> None:
    """z reaches a million, where every distribution function has long underflowed."""
    grid = torch.linspace(0, 1, 256, dtype=torch.float64)
    log_sigma = torch.tensor(math.log(1e-6), dtype=torch.float64)
    log_mass = gaussian_log_mass(grid, torch.tensor(0.0), log_sigma, levels=256)
    assert log_mass.isfinite().all()
    z = (grid[1:] - 0.5 / 255) / 1e-6
    tail = -0.5 * z.square() - z.log() - 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(log_mass[1:], tail, rtol=1e-9, atol=0)


def test_optimal_sigma_squared_is_the_mean_squared_error() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(20, 5, generator=generator, dtype=torch.float64)
    params = torch.randn(20, 1, 5, generator=generator, dtype=torch.float64)
    mean_squared_error = (x - params[:, 0]).square().mean()
    log_sigma = Gaussian(link="identity").optimal_log_sigma(x, params)
    torch.testing.assert_close((2 * log_sigma).exp(), mean_squared_error)
