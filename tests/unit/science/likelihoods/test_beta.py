"""What is special to the beta distribution; its numbers are checked in `test_oracles.py` too."""

import math

import pytest
import torch
from scipy.special import expit
from scipy.stats import beta
from torch import Tensor

from tune_vae.science.likelihoods import Measure
from tune_vae.science.likelihoods.beta import Beta


def setting(a: float, b: float, count: int) -> tuple[Tensor, Tensor]:
    """Parameters and log sigma that give these shape parameters, for `count` values."""
    params = torch.full((1, 1, count), math.log(a / b), dtype=torch.float64)
    return params, torch.tensor(-0.5 * math.log(a + b), dtype=torch.float64)


def grid(levels: int) -> Tensor:
    return torch.arange(levels, dtype=torch.float64)[None] / (levels - 1)


SHAPES = [(1.0, 1.0), (0.5, 0.5), (2.0, 5.0), (0.1, 30.0), (80.0, 20.0), (3e3, 1e4)]


@pytest.mark.parametrize(("a", "b"), SHAPES)
@pytest.mark.parametrize("levels", [2, 17, 256])
def test_density_and_masses_are_those_of_scipy(levels: int, a: float, b: float) -> None:
    likelihood, x = Beta(levels=levels), grid(levels)
    params, log_sigma = setting(a, b, levels)
    t = (torch.arange(levels, dtype=torch.float64) + 0.5) / levels
    exact = beta.logpdf(t, a, b) + math.log((levels - 1) / levels)
    got = likelihood.log_prob(x, params, log_sigma)
    assert got[0].tolist() == pytest.approx(exact.tolist(), rel=1e-9, abs=1e-9)
    exact = beta.cdf(t + 0.5 / levels, a, b) - beta.cdf(t - 0.5 / levels, a, b)
    got = likelihood.log_mass(x, params, log_sigma, levels=levels).exp()
    assert got[0].tolist() == pytest.approx(exact.tolist(), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("a", "b"), [(1.0, 1.0), (2.0, 5.0), (80.0, 20.0), (3e3, 1e4)])
def test_density_integrates_to_one_over_the_bins_of_all_levels(a: float, b: float) -> None:
    """In steps of t's logit, which are fine where the density is high."""
    likelihood = Beta(levels=17)
    logit = math.log(a / b) + 40 * torch.linspace(-1, 1, 40_001, dtype=torch.float64).pow(3)
    t, rest = logit.sigmoid(), (-logit).sigmoid()
    x = (17 * t - 0.5) / 16
    params, log_sigma = setting(a, b, len(x))
    log_density = likelihood.log_prob(x[None], params, log_sigma)[0]
    # dx/dt dt/dlogit; from where on 1 - t can be told from 0.
    weight = torch.where((t > 1e-9) & (rest > 1e-9), log_density.exp() * t * rest * 17 / 16, 0)
    mean = likelihood.mean(params)[0, 0]
    variance = (17 / 16) ** 2 * a * b / (a + b) ** 2 / (a + b + 1)
    assert torch.trapezoid(weight, logit).item() == pytest.approx(1, abs=1e-6)
    assert torch.trapezoid(weight * x, logit).item() == pytest.approx(mean.item(), abs=1e-6)
    spread = torch.trapezoid(weight * (x - mean).square(), logit).item()
    assert spread == pytest.approx(variance, rel=1e-5)


@pytest.mark.parametrize("levels", [2, 3, 17, 256])
def test_masses_between_two_poles_are_an_arcsine(levels: int) -> None:
    params, log_sigma = setting(0.5, 0.5, levels)
    ends = torch.arange(levels + 1, dtype=torch.float64) / levels
    exact = (2 / math.pi * ends.sqrt().asin()).diff()
    got = Beta(levels=levels).log_mass(grid(levels), params, log_sigma, levels=levels)
    torch.testing.assert_close(got[0].exp(), exact, rtol=1e-9, atol=0)


@pytest.mark.parametrize("power", [1e-12, 1e-3, 0.3, 2.0, 50.0, 1e3, 1e6])
@pytest.mark.parametrize("mirrored", [False, True])
def test_masses_of_a_power_law_are_powers(power: float, mirrored: bool) -> None:
    params, log_sigma = setting(*((1.0, power) if mirrored else (power, 1.0)), 64)
    log_t = (torch.arange(1, 65, dtype=torch.float64) / 64).log()
    exact = torch.cat([power * log_t[:1], power * log_t[1:]])
    exact[1:] += (-torch.expm1(power * (log_t[:-1] - log_t[1:]))).log()
    got = Beta(levels=64).log_mass(grid(64), params, log_sigma, levels=64)[0]
    torch.testing.assert_close(got.flip(0) if mirrored else got, exact, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("sigma", [1e-6, 0.03, 0.3, 1.0, 1e3])
def test_black_and_white_may_be_exchanged(sigma: float) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 17, (50, 4), generator=generator).double() / 16
    params = 3 * torch.randn(50, 1, 4, generator=generator, dtype=torch.float64)
    log_sigma, likelihood = torch.tensor(math.log(sigma)).double(), Beta(levels=17)
    torch.testing.assert_close(
        likelihood.log_prob(x, params, log_sigma), likelihood.log_prob(1 - x, -params, log_sigma)
    )
    torch.testing.assert_close(
        likelihood.log_mass(x, params, log_sigma, levels=17),
        likelihood.log_mass(1 - x, -params, log_sigma, levels=17),
    )
    torch.testing.assert_close(likelihood.mean(params), 1 - likelihood.mean(-params))


@pytest.mark.parametrize("logit", [-3.0, 0.0, 1.0])
@pytest.mark.parametrize("sigma", [0.01, 0.3, 1.0, 10.0])
def test_spread_of_draws_is_that_of_a_coin_flip_times_sigma(sigma: float, logit: float) -> None:
    params = torch.full((1, 1, 100_000), logit, dtype=torch.float64)
    log_sigma = torch.tensor(math.log(sigma), dtype=torch.float64)
    sample = Beta().sample(params, log_sigma, torch.Generator().manual_seed(0))
    flip = expit(logit) * expit(-logit) * (256 / 255) ** 2
    expected = flip * sigma**2 / (1 + sigma**2)
    assert sample.var().item() == pytest.approx(expected, rel=0.03)


def test_draws_without_a_concentration_are_black_or_white() -> None:
    params = torch.zeros(1, 1, 1000)
    for sigma in (1e3, 1e6):
        log_sigma = torch.tensor(math.log(sigma))
        sample = Beta().sample(params, log_sigma, torch.Generator().manual_seed(0))
        assert set((sample * 255).round().clamp(0, 255).tolist()[0]) == {0.0, 255.0}
        assert 400 < sample.round().clamp(min=0).sum() < 600


def test_uniform_distribution_gives_every_level_the_same() -> None:
    params, log_sigma = setting(1.0, 1.0, 256)
    mass = Beta().log_mass(grid(256), params, log_sigma, levels=256)
    torch.testing.assert_close(mass, torch.full_like(mass, -math.log(256)), rtol=1e-12, atol=0)
    density = Beta().log_prob(grid(256), params, log_sigma).exp()
    torch.testing.assert_close(density, torch.full_like(density, 255 / 256))


@pytest.mark.parametrize("spread", [0.003, 0.05, 0.3])
def test_optimal_scale_is_found_in_float32_as_well(spread: float) -> None:
    generator = torch.Generator().manual_seed(0)
    params = torch.randn(200, 1, 10, generator=generator, dtype=torch.float64)
    log_sigma = torch.tensor(math.log(spread), dtype=torch.float64)
    x = Beta().sample(params, log_sigma, generator).clamp(0, 1)
    double = Beta().optimal_log_sigma(x, params)
    single = Beta().optimal_log_sigma(x.float(), params.float())
    assert single.item() == pytest.approx(double.item(), abs=1e-3)
    assert double.item() == pytest.approx(log_sigma.item(), abs=0.1)


def test_optimal_scale_of_images_that_are_met_exactly_is_tiny_and_finite() -> None:
    params = torch.zeros(1, 1, 5)
    log_sigma = Beta(levels=3).optimal_log_sigma(torch.full((1, 5), 0.5), params)
    assert -40 < log_sigma.item() < -30


def test_on_another_number_of_levels_it_has_no_number() -> None:
    x, params = torch.zeros(2, 3), torch.zeros(2, 1, 3)
    assert Beta().measure(256) is Measure.DENSITY
    assert Beta().measure(17) is Measure.IMPROPER
    assert Beta().measure(None) is Measure.IMPROPER
    assert Beta().log_mass(x, params, torch.tensor(0.0), levels=17).isnan().all()


def test_fewer_than_two_levels_are_refused() -> None:
    with pytest.raises(ValueError, match="levels must be at least 2, got 1"):
        Beta(levels=1)
