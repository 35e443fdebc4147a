"""What every likelihood guarantees, checked on every file of the family.

Shapes: n settings of the parameters, P parameters per value, L levels, S draws, K models.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import fields
from functools import partial

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.func import vmap

from tests.discovery import component_classes, is_frozen
from tune_vae.science.likelihoods import Likelihood, Measure
from tune_vae.science.likelihoods.gaussian import Gaussian

CLASSES = component_classes("science.likelihoods")
LIKELIHOODS = [make() for make in CLASSES]
LIKELIHOODS += [Gaussian(link="identity")]
LIKELIHOODS += [
    make(levels=17) for make in CLASSES if "levels" in {field.name for field in fields(make)}
]
DENSITIES = [one for one in LIKELIHOODS if one.measure(256) is Measure.DENSITY]
SCALED_DENSITIES = [likelihood for likelihood in DENSITIES if likelihood.has_scale]
# Both sides of every place where a formula may change over to a series, and far beyond.
PARAMS = [80.0, 20.3, 3.0, 0.31, 0.29, 0.051, 0.049, 1e-6, 1e-9]
PARAMS = [-param for param in PARAMS] + [0.0, *reversed(PARAMS)]
LOG_SIGMAS = [math.log(1e-6), -3.0, -1.0, 0.0, 2.0]

every_likelihood = pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=repr)
every_scaled_density = pytest.mark.parametrize("likelihood", SCALED_DENSITIES, ids=repr)
every_density = pytest.mark.parametrize("likelihood", DENSITIES, ids=repr)
every_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


def parameters(
    likelihood: Likelihood, values: list[float], count: int, device: torch.device
) -> Tensor:
    """`nP` settings, repeated for `count` data values, float64."""
    values_n = torch.tensor(values, dtype=torch.float64, device=device)
    params_nP = torch.stack([values_n.roll(p) for p in range(likelihood.params_per_value)], 1)
    return params_nP[:, :, None].expand(-1, -1, count).contiguous()


def scales(likelihood: Likelihood, log_sigmas: list[float]) -> list[float]:
    return log_sigmas if likelihood.has_scale else [0.0]


def gauss_legendre(low: float, high: float, panels: int, order: int) -> tuple[Tensor, Tensor]:
    """Points and weights of an integral from `low` to `high`."""
    nodes, weights = map(torch.from_numpy, np.polynomial.legendre.leggauss(order))
    width = (high - low) / panels
    begins = low + width * torch.arange(panels, dtype=torch.float64)
    points = begins[:, None] + 0.5 * width * (nodes + 1)
    return points.flatten(), (0.5 * width * weights).repeat(panels)


def quadrature(likelihood: Likelihood, mean_n: Tensor, log_sigma: float) -> tuple[Tensor, Tensor]:
    """Points and weights of an integral over the support.

    A likelihood with a scale lives on the whole line, one without on [0, 1]. A panel ends at
    the mean, where a density may have a kink.
    """
    if likelihood.has_scale:
        u, weights = gauss_legendre(-25, 25, panels=200, order=20)
        sigma = math.exp(log_sigma)
        points = mean_n[:, None].cpu() + sigma * u.sinh()
        weights = (sigma * weights * u.cosh()).expand_as(points)
    else:
        points, weights = gauss_legendre(0, 1, panels=1, order=200)
        points, weights = (part.expand(len(mean_n), -1) for part in (points, weights))
    return points.to(mean_n), weights.to(mean_n)


def own_levels(likelihood: Likelihood) -> int:
    """A number of levels on which a likelihood is proper."""
    return next(n for n in (17, 2, 256) if likelihood.measure(n) is not Measure.IMPROPER)


@every_likelihood
def test_likelihood_is_a_frozen_value(likelihood: Likelihood) -> None:
    assert is_frozen(type(likelihood))
    assert len({likelihood, type(likelihood)(**vars(likelihood))}) == 1


@every_likelihood
@pytest.mark.parametrize("levels", [2, 17, 256])
def test_masses_of_all_levels_sum_to_one(
    likelihood: Likelihood, levels: int, device: torch.device
) -> None:
    params = parameters(likelihood, PARAMS, levels, device)
    x_nL = torch.arange(levels, dtype=torch.float64, device=device) / (levels - 1)
    x_nL = x_nL.expand(len(params), levels)
    for log_sigma in scales(likelihood, LOG_SIGMAS):
        log_sigma_ = torch.tensor(log_sigma, dtype=torch.float64, device=device)
        log_mass_nL = likelihood.log_mass(x_nL, params, log_sigma_, levels=levels)
        assert log_mass_nL.dtype == torch.float64
        if likelihood.measure(levels) is Measure.IMPROPER:
            assert log_mass_nL.isnan().all()
        else:
            assert (log_mass_nL <= 1e-12).all()
            total_n = log_mass_nL.exp().sum(1)
            torch.testing.assert_close(total_n, torch.ones_like(total_n), rtol=0, atol=1e-9)


@every_likelihood
@pytest.mark.parametrize("levels", [2, 17, 256])
def test_log_prob_of_a_mass_is_its_mass(
    likelihood: Likelihood, levels: int, device: torch.device
) -> None:
    params = parameters(likelihood, PARAMS, levels, device)
    x_nL = torch.linspace(0, 1, levels, dtype=torch.float64, device=device)
    x_nL = x_nL.expand(len(params), levels)
    zero = torch.zeros((), dtype=torch.float64, device=device)
    same = torch.allclose(
        likelihood.log_prob(x_nL, params, zero),
        likelihood.log_mass(x_nL, params, zero, levels=levels),
        rtol=1e-12,
    )
    assert same == (likelihood.measure(levels) is Measure.MASS)


@every_density
def test_density_integrates_to_one(likelihood: Likelihood, device: torch.device) -> None:
    for log_sigma in scales(likelihood, LOG_SIGMAS):
        mean_n = likelihood.mean(parameters(likelihood, PARAMS, 1, device))[:, 0]
        points, weights = quadrature(likelihood, mean_n, log_sigma)
        params = parameters(likelihood, PARAMS, points.shape[1], device)
        log_sigma_ = torch.tensor(log_sigma, dtype=torch.float64, device=device)
        density = likelihood.log_prob(points, params, log_sigma_).exp()
        total_n = (density * weights).sum(1)
        # Beside a mean of 1, points at a distance of 1e-6 are known to 1e-10 of it only.
        torch.testing.assert_close(total_n, torch.ones_like(total_n), rtol=0, atol=1e-8)
        if math.exp(log_sigma) > 1e-3:
            first_n = (density * weights * points).sum(1)
            torch.testing.assert_close(first_n, mean_n, rtol=1e-7, atol=1e-7)


@every_density
def test_mass_is_the_integral_of_the_density_over_the_bin(
    likelihood: Likelihood, device: torch.device
) -> None:
    nodes, weights = (part.to(device) for part in gauss_legendre(0, 1, panels=1, order=50))
    for level in (1, 7, 15):
        params = parameters(likelihood, PARAMS, len(nodes), device)
        x = torch.tensor(level / 16, dtype=torch.float64, device=device)
        for log_sigma in scales(likelihood, [-1.0, 0.0, 2.0]):
            log_sigma_ = torch.tensor(log_sigma, dtype=torch.float64, device=device)
            # In two parts, because at its mean a density may have a kink.
            low_n = torch.full_like(params[:, 0, 0], (level - 0.5) / 16)
            middle_n = likelihood.mean(params)[:, 0].clamp((level - 0.5) / 16, (level + 0.5) / 16)
            inside_n = torch.zeros_like(low_n)
            for begin_n, end_n in ((low_n, middle_n), (middle_n, low_n + 1 / 16)):
                points = begin_n[:, None] + (end_n - begin_n)[:, None] * nodes
                density = likelihood.log_prob(points, params, log_sigma_).exp()
                inside_n += (end_n - begin_n) * (density * weights).sum(1)
            log_mass = likelihood.log_mass(
                x.expand(len(params), 1), params[:, :, :1], log_sigma_, levels=17
            )
            torch.testing.assert_close(log_mass[:, 0].exp(), inside_n, rtol=1e-9, atol=1e-300)


@every_likelihood
def test_samples_fall_into_bins_as_often_as_their_masses_say(
    likelihood: Likelihood, device: torch.device
) -> None:
    levels = own_levels(likelihood)
    draws = 20_000 if levels < 256 else 2_000
    settings = [-80.0, -3.0, -1e-6, 0.0, 0.7, 3.0, 80.0]
    params = parameters(likelihood, settings, draws, device)
    log_sigma = torch.tensor(-1.0, dtype=torch.float64, device=device)
    generator = torch.Generator(device).manual_seed(0)
    sample_nS = likelihood.sample(params, log_sigma, generator)
    if not likelihood.has_scale:
        assert ((sample_nS >= 0) & (sample_nS <= 1)).all()

    level_nS = (sample_nS.clamp(0, 1) * (levels - 1)).round()
    x_L = torch.arange(levels, dtype=torch.float64, device=device)
    often_nL = torch.stack([level_S.bincount(minlength=levels) for level_S in level_nS.long()])
    often_nL = often_nL.double() / draws
    mass_nL = likelihood.log_mass(
        (x_L / (levels - 1)).expand(len(settings), levels),
        parameters(likelihood, settings, levels, device),
        log_sigma,
        levels=levels,
    ).exp()
    error_nL = (mass_nL * (1 - mass_nL) / draws).clamp(min=0).sqrt()
    assert ((often_nL - mass_nL).abs() <= 4.5 * error_nL + 5 / draws).all()

    mean_n = likelihood.mean(params)[:, 0]
    if likelihood.measure(levels) is Measure.MASS:
        torch.testing.assert_close(sample_nS, level_nS / (levels - 1))
        expected_n = (mass_nL * x_L).sum(1) / (levels - 1)
        if not likelihood.has_scale:
            assert ((mean_n - expected_n).abs() <= 0.5 / (levels - 1)).all()
        mean_n = expected_n
    error_n = sample_nS.std(1) / draws**0.5
    assert ((sample_nS.mean(1) - mean_n).abs() <= 4.5 * error_n + 1e-12).all()


@every_likelihood
def test_the_generator_alone_decides_what_is_drawn(
    likelihood: Likelihood, device: torch.device
) -> None:
    params = parameters(likelihood, [0.0], 100, device)
    log_sigma = torch.zeros((), dtype=torch.float64, device=device)

    def draw(seed: int) -> Tensor:
        return likelihood.sample(params, log_sigma, torch.Generator(device).manual_seed(seed))

    before = torch.random.get_rng_state()
    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))
    assert torch.equal(torch.random.get_rng_state(), before)


@every_likelihood
def test_gradients_agree_with_finite_differences(
    likelihood: Likelihood, device: torch.device
) -> None:
    params = parameters(likelihood, PARAMS, 3, device).requires_grad_()
    # A density may have a kink at its mean, which lies close to 0 or 1 for some of these; a
    # probability of levels is only known on the levels.
    edge = 0.001 if likelihood.measure(256) is Measure.DENSITY else 0.0
    x = torch.tensor([edge, 0.3, 1 - edge], dtype=torch.float64, device=device)
    of_levels = hasattr(likelihood, "levels") or likelihood.measure(256) is Measure.MASS
    x = x.repeat(len(params), 1).requires_grad_(not of_levels)
    inputs = [x, params]
    if likelihood.has_scale:
        inputs.append(torch.tensor(-1.0, dtype=torch.float64, device=device, requires_grad=True))
    else:
        inputs.append(torch.tensor(0.0, dtype=torch.float64, device=device))
    fast = likelihood.params_per_value > 8
    check = partial(torch.autograd.gradcheck, atol=1e-6, rtol=1e-6, fast_mode=fast)
    assert check(likelihood.log_prob, inputs)
    assert check(likelihood.mean, [params])


@every_likelihood
@every_dtype
def test_values_and_gradients_are_finite_at_the_extremes(
    likelihood: Likelihood, dtype: torch.dtype, device: torch.device
) -> None:
    params = parameters(likelihood, [*PARAMS, -300.0, 300.0], 3, device).to(dtype)
    params = params.requires_grad_()
    x = torch.tensor([0.0, 0.5, 1.0], dtype=dtype, device=device).expand(len(params), 3)
    for value in scales(likelihood, LOG_SIGMAS):
        log_sigma = torch.tensor(value, dtype=dtype, device=device, requires_grad=True)
        log_prob = likelihood.log_prob(x, params, log_sigma)
        mean = likelihood.mean(params)
        assert log_prob.isfinite().all()
        assert mean.isfinite().all()
        (gradient,) = torch.autograd.grad(mean.sum(), params)
        assert gradient.isfinite().all()
        wanted = [params, log_sigma] if likelihood.has_scale else [params]
        for gradient in torch.autograd.grad(log_prob.sum(), wanted):
            assert gradient.isfinite().all()


@every_likelihood
def test_float32_and_float64_agree(likelihood: Likelihood, device: torch.device) -> None:
    def both(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        params = parameters(likelihood, PARAMS, 3, device).float().to(dtype).requires_grad_()
        x = torch.tensor([0.0, 0.25, 1.0], dtype=dtype, device=device).expand(len(params), 3)
        log_prob = likelihood.log_prob(x, params, torch.tensor(-1.0, dtype=dtype, device=device))
        (gradient,) = torch.autograd.grad(log_prob.sum(), params)
        return log_prob.detach().double(), gradient.double()

    for single, double in zip(both(torch.float32), both(torch.float64), strict=True):
        torch.testing.assert_close(single, double, rtol=2e-4, atol=1e-5)


@every_likelihood
def test_everything_can_be_lifted_to_many_models_without_a_warning(
    likelihood: Likelihood, device: torch.device
) -> None:
    params_K = torch.stack([parameters(likelihood, PARAMS, 3, device) + k for k in range(3)])
    x_K = torch.rand(3, len(PARAMS), 3, dtype=torch.float64, device=device)
    x_K = (x_K * 16).round() / 16
    log_sigma_K = torch.tensor([-2.0, 0.0, 1.0], dtype=torch.float64, device=device)

    def masses(x: Tensor, params: Tensor, log_sigma: Tensor) -> Tensor:
        return likelihood.log_mass(x, params, log_sigma, levels=17)

    def mean(x: Tensor, params: Tensor, log_sigma: Tensor) -> Tensor:
        return likelihood.mean(params)

    def optimum(x: Tensor, params: Tensor, log_sigma: Tensor) -> Tensor:
        return likelihood.optimal_log_sigma(x, params)

    functions: list[Callable[[Tensor, Tensor, Tensor], Tensor]] = [likelihood.log_prob, masses]
    functions += [mean, optimum] if likelihood.has_scale else [mean]
    for function in functions:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            lifted = vmap(function)(x_K, params_K, log_sigma_K)
        one_by_one = [function(x_K[k], params_K[k], log_sigma_K[k]) for k in range(3)]
        torch.testing.assert_close(lifted, torch.stack(one_by_one), equal_nan=True)


@every_scaled_density
@pytest.mark.parametrize("spread", [0.3, 0.01])
def test_optimal_scale_makes_the_data_most_probable(
    likelihood: Likelihood, spread: float, device: torch.device
) -> None:
    generator = torch.Generator().manual_seed(0)
    params = torch.randn(50, likelihood.params_per_value, 7, generator=generator)
    params = params.double().to(device)
    noise = torch.randn(50, 7, generator=generator, dtype=torch.float64).to(device)
    x = likelihood.mean(params) + spread * noise

    def cost(log_sigma: float) -> float:
        scale = torch.tensor(log_sigma, dtype=torch.float64, device=device)
        return -likelihood.log_prob(x, params, scale).mean().item()

    best = minimize_scalar(cost, bounds=(-9, 3), method="bounded", options={"xatol": 1e-7}).x
    assert likelihood.optimal_log_sigma(x, params).item() == pytest.approx(best, abs=1e-5)


@pytest.mark.parametrize("likelihood", [o for o in LIKELIHOODS if not o.has_scale], ids=repr)
def test_a_likelihood_without_a_scale_has_no_optimal_one(likelihood: Likelihood) -> None:
    with pytest.raises(NotImplementedError, match=f"{type(likelihood).__name__} has no scale"):
        likelihood.optimal_log_sigma(torch.zeros(1, 1), torch.zeros(1, 1, 1))
