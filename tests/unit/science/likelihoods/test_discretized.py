"""What the two discretised likelihoods share; their numbers are checked in `test_oracles.py`."""

import math

import pytest
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from tune_vae.science.bins import gaussian_log_mass
from tune_vae.science.likelihoods import Likelihood, Measure
from tune_vae.science.likelihoods.discretized_gaussian import DiscretizedGaussian
from tune_vae.science.likelihoods.discretized_logistic import DiscretizedLogistic
from tune_vae.science.likelihoods.gaussian import Gaussian

BOTH = [DiscretizedGaussian, DiscretizedLogistic]
# Standard deviation of a distribution of scale 1.
SPREAD = {DiscretizedGaussian: 1.0, DiscretizedLogistic: math.pi / math.sqrt(3)}

both = pytest.mark.parametrize("make", BOTH)


def interior(make: type[Likelihood], scale: float, levels: int) -> tuple[Tensor, Tensor]:
    """Levels drawn around means far from 0 and 1."""
    generator = torch.Generator().manual_seed(0)
    params = 0.4 + 0.2 * torch.rand(400, 1, 50, generator=generator, dtype=torch.float64)
    log_scale = torch.tensor(math.log(scale), dtype=torch.float64)
    return make(levels=levels, link="identity").sample(params, log_scale, generator), params


@both
def test_on_another_number_of_levels_it_has_no_number(make: type[Likelihood]) -> None:
    x, params = torch.zeros(2, 3), torch.zeros(2, 1, 3)
    likelihood = make(levels=256)
    assert likelihood.measure(256) is Measure.MASS
    assert likelihood.measure(17) is Measure.IMPROPER
    assert likelihood.log_mass(x, params, torch.tensor(0.0), levels=17).isnan().all()


@both
def test_fewer_than_two_levels_are_refused(make: type[Likelihood]) -> None:
    with pytest.raises(ValueError, match="levels must be at least 2, got 1"):
        make(levels=1)


@both
@pytest.mark.parametrize("scale", [0.02, 0.05])
def test_optimal_scale_is_near_the_most_probable_one(make: type[Likelihood], scale: float) -> None:
    """20,000 values leave a sampling error of half a percent, of moments and likelihood alike."""
    x, params = interior(make, scale, levels=33)
    likelihood = make(levels=33, link="identity")

    def cost(log_sigma: float) -> float:
        log_sigma_ = torch.tensor(log_sigma, dtype=torch.float64)
        return -likelihood.log_prob(x, params, log_sigma_).mean().item()

    best = minimize_scalar(cost, bounds=(-7, 1), method="bounded", options={"xatol": 1e-6})
    got = likelihood.optimal_log_sigma(x, params).item()
    assert got == pytest.approx(best.x, abs=0.015)
    assert cost(got) - best.fun < 3e-4


@both
def test_optimal_scale_of_errors_within_a_bin_is_finite_and_nearly_free(
    make: type[Likelihood],
) -> None:
    x, params = interior(make, 1e-3, levels=17)
    x = params[:, 0] + 1e-3 * torch.sin(100 * params[:, 0])
    likelihood = make(levels=17, link="identity")
    log_sigma = likelihood.optimal_log_sigma(x, params)
    assert math.log(1e-4) < log_sigma.item() < math.log(1e-3)
    assert likelihood.log_prob(x, params, log_sigma).mean().item() > -1e-6


@both
def test_a_pixel_that_is_met_exactly_earns_nothing_below_the_width_of_a_bin(
    make: type[Likelihood],
) -> None:
    """Unlike a density, which rises without bound as sigma falls."""
    x, params = torch.full((1, 1), 0.5), torch.full((1, 1, 1), 0.5)
    log_sigma = torch.tensor([-8.0, -12.0])[:, None]
    assert make(levels=17, link="identity").log_prob(x, params, log_sigma).abs().max() < 1e-6


@both
def test_draws_lie_on_levels_and_spread_as_stated(make: type[Likelihood]) -> None:
    x, params = interior(make, 0.05, levels=256)
    torch.testing.assert_close(x * 255, (x * 255).round())
    variance = (0.05 * SPREAD[make]) ** 2 + 1 / (12 * 255**2)
    assert (x - params[:, 0]).var().item() == pytest.approx(variance, rel=0.03)


def test_narrow_bins_make_the_density_times_their_width() -> None:
    generator = torch.Generator().manual_seed(0)
    x = 0.1 + 0.8 * torch.rand(20, 5, generator=generator, dtype=torch.float64)
    params = torch.randn(20, 1, 5, generator=generator, dtype=torch.float64)
    log_sigma = torch.tensor(-1.0, dtype=torch.float64)
    mass = DiscretizedGaussian(levels=100_001).log_prob(x, params, log_sigma)
    density = Gaussian().log_prob(x, params, log_sigma)
    torch.testing.assert_close(mass, density - math.log(100_000), rtol=0, atol=1e-9)


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_training_objective_is_the_mass_that_scores_a_gaussian(levels: int) -> None:
    x = torch.linspace(0, 1, levels, dtype=torch.float64)[None]
    params = torch.full((1, 1, levels), 0.7, dtype=torch.float64)
    log_sigma = torch.tensor(-2.0, dtype=torch.float64)
    torch.testing.assert_close(
        DiscretizedGaussian(levels=levels).log_prob(x, params, log_sigma),
        Gaussian().log_mass(x, params, log_sigma, levels=levels),
        rtol=0,
        atol=0,
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_gradients_are_smooth_across_the_places_where_the_formula_changes(
    dtype: torch.dtype,
) -> None:
    """A quarter of a scale for half the bin, and a mean at the bin's edge."""
    half = 0.5 / 16
    for near in (0.25, 1.0):
        mean = 0.5 + near * half + torch.linspace(-1e-3, 1e-3, 41, dtype=dtype)
        mean.requires_grad_()
        log_sigma = torch.tensor(math.log(half / 0.25), dtype=dtype)
        log_sigma = (log_sigma + torch.linspace(-1e-3, 1e-3, 41, dtype=dtype))[:, None]
        x = torch.full((41, 41), 0.5, dtype=dtype)
        mass = gaussian_log_mass(x, mean, log_sigma, levels=17)
        (gradient,) = torch.autograd.grad(mass.sum(), mean)
        scale = gradient.abs().max()
        bend = gradient.diff().diff().abs().max() / scale
        assert bend < (1e-6 if dtype == torch.float64 else 1e-4)
