"""What every likelihood guarantees, checked on every file of the family.

Shapes: n settings of the parameters, P parameters per value, L levels or counts, S draws, K
models.
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
from tune_vae.science.likelihoods import Domain, Likelihood, Measure
from tune_vae.science.likelihoods.gaussian import Gaussian


def with_field(name: str) -> list[type]:
    return [make for make in CLASSES if name in {field.name for field in fields(make)}]


def own_levels(likelihood: Likelihood) -> int | None:
    """A number of levels on which a likelihood is proper; None of counts."""
    return next(n for n in (17, 2, 256, None) if likelihood.measure(n) is not Measure.IMPROPER)


CLASSES = component_classes("science.likelihoods")
LIKELIHOODS = [make() for make in CLASSES]
LIKELIHOODS += [Gaussian(link="identity")]
LIKELIHOODS += [make(levels=17) for make in with_field("levels")]
LIKELIHOODS += [make(library="none") for make in with_field("library")]
DENSITIES = [one for one in LIKELIHOODS if one.measure(own_levels(one)) is Measure.DENSITY]
SCALED_DENSITIES = [likelihood for likelihood in DENSITIES if likelihood.has_scale]
# Both sides of every place where a formula may change over to a series, and far beyond.
PARAMS = [80.0, 20.3, 3.0, 0.31, 0.29, 0.051, 0.049, 1e-6, 1e-9]
PARAMS = [-param for param in PARAMS] + [0.0, *reversed(PARAMS)]
LOG_SIGMAS = [math.log(1e-6), -3.0, -1.0, 0.0, 2.0]
HIGHEST_LOG_MEAN = 3.0
"""Of counts; beyond its exponential too many counts would have to be summed."""

every_likelihood = pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=repr)
every_scaled_density = pytest.mark.parametrize("likelihood", SCALED_DENSITIES, ids=repr)
every_density = pytest.mark.parametrize("likelihood", DENSITIES, ids=repr)
# One of levels has poles beyond 0 and 1; see `test_beta.py`.
every_density_without_poles = pytest.mark.parametrize(
    "likelihood", [one for one in DENSITIES if not hasattr(one, "levels")], ids=repr
)
every_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


def parameters(
    likelihood: Likelihood, values: list[float], count: int, device: torch.device
) -> Tensor:
    """`nP` settings, repeated for `count` data values, float64."""
    if Domain.COUNTS in likelihood.domains:
        values = [value for value in values if value <= HIGHEST_LOG_MEAN]
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


def grid(levels: int | None, device: torch.device, *, counts: int = 200) -> Tensor:
    """All levels, or the first counts, float64."""
    indices_L = torch.arange(levels or counts, dtype=torch.float64, device=device)
    return indices_L / (levels - 1 if levels else 1)


def three_values(likelihood: Likelihood, middle: float) -> list[float]:
    return [0.0, 1.0, 7.0] if Domain.COUNTS in likelihood.domains else [0.0, middle, 1.0]


@every_likelihood
def test_likelihood_is_a_frozen_value(likelihood: Likelihood) -> None:
    assert is_frozen(type(likelihood))
    assert len({likelihood, type(likelihood)(**vars(likelihood))}) == 1


@every_likelihood
@pytest.mark.parametrize("levels", [2, 17, 256, None])
def test_it_fits_the_data_it_is_made_for_and_says_why_not_others(
    likelihood: Likelihood, levels: int | None
) -> None:
    domain, misfit = Domain.of(levels), likelihood.misfit(levels)
    if domain in likelihood.domains:
        assert misfit == ""
    else:
        assert all(known.value in misfit for known in likelihood.domains)
        data = f"{levels} grey levels" if domain is Domain.LEVELS else domain.value
        assert misfit.endswith(f"and the data are {data}")


@every_likelihood
def test_it_is_proper_on_some_data_it_is_made_for(likelihood: Likelihood) -> None:
    assert likelihood.misfit(own_levels(likelihood)) == ""


@pytest.mark.parametrize(
    ("likelihood", "levels"),
    [(one, levels) for one in LIKELIHOODS for levels in (2, 17, 256)]
    + [(one, None) for one in LIKELIHOODS if Domain.COUNTS in one.domains],
    ids=repr,
)
def test_masses_of_all_levels_or_counts_sum_to_one(
    likelihood: Likelihood, levels: int | None, device: torch.device
) -> None:
    # So many that of the widest distribution less than 1e-10 lies beyond.
    x_L = grid(levels, device, counts=25_000)
    params = parameters(likelihood, PARAMS, len(x_L), device)
    x_nL = x_L.expand(len(params), -1)
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
def test_masses_are_counted_in_float64_whatever_the_model_computes_in(
    likelihood: Likelihood, device: torch.device
) -> None:
    levels = own_levels(likelihood)
    x_L = grid(levels, device, counts=20).float()
    single = parameters(likelihood, [-1.5, 0.25, 3.0], len(x_L), device).float()
    log_sigma = torch.tensor(-1.0, device=device)
    x_nL = x_L.expand(len(single), -1)
    got = likelihood.log_mass(x_nL, single, log_sigma, levels=levels)
    assert got.dtype == torch.float64
    exact = likelihood.log_mass(x_nL.double(), single.double(), log_sigma.double(), levels=levels)
    # A density may take its mean as the model gives it.
    rtol = 1e-12 if likelihood.measure(levels) is Measure.MASS else 1e-5
    torch.testing.assert_close(got, exact, rtol=rtol, atol=1e-14)


@every_likelihood
@pytest.mark.parametrize("levels", [2, 17, 256, None])
def test_log_prob_of_a_mass_is_its_mass(
    likelihood: Likelihood, levels: int | None, device: torch.device
) -> None:
    x_L = grid(levels, device)
    params = parameters(likelihood, PARAMS, len(x_L), device)
    x_nL = x_L.expand(len(params), -1)
    zero = torch.zeros((), dtype=torch.float64, device=device)
    same = torch.allclose(
        likelihood.log_prob(x_nL, params, zero),
        likelihood.log_mass(x_nL, params, zero, levels=levels),
        rtol=1e-12,
    )
    assert same == (likelihood.measure(levels) is Measure.MASS)


@every_density_without_poles
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
    levels = own_levels(likelihood)
    assert levels is not None
    width = 1 / (levels - 1)
    for level in (1, levels // 2 - 1, levels - 2):
        params = parameters(likelihood, PARAMS, len(nodes), device)
        x = torch.tensor(level * width, dtype=torch.float64, device=device)
        for log_sigma in scales(likelihood, [-1.0, 0.0, 2.0]):
            log_sigma_ = torch.tensor(log_sigma, dtype=torch.float64, device=device)
            # In two parts, because at its mean a density may have a kink.
            low_n = torch.full_like(params[:, 0, 0], (level - 0.5) * width)
            middle_n = likelihood.mean(params)[:, 0].clamp(low_n, low_n + width)
            inside_n = torch.zeros_like(low_n)
            for begin_n, end_n in ((low_n, middle_n), (middle_n, low_n + width)):
                points = begin_n[:, None] + (end_n - begin_n)[:, None] * nodes
                density = likelihood.log_prob(points, params, log_sigma_).exp()
                inside_n += (end_n - begin_n) * (density * weights).sum(1)
            log_mass = likelihood.log_mass(
                x.expand(len(params), 1), params[:, :, :1], log_sigma_, levels=levels
            )
            torch.testing.assert_close(log_mass[:, 0].exp(), inside_n, rtol=1e-9, atol=1e-300)


@every_likelihood
def test_samples_fall_into_bins_as_often_as_their_masses_say(
    likelihood: Likelihood, device: torch.device
) -> None:
    levels = own_levels(likelihood)
    x_L = grid(levels, device)
    draws = 20_000 if len(x_L) < 200 else 5_000
    settings = [-80.0, -3.0, -1e-6, 0.0, 0.7, 3.0, 80.0]
    params = parameters(likelihood, settings, draws, device)
    log_sigma = torch.tensor(-1.0, dtype=torch.float64, device=device)
    generator = torch.Generator(device).manual_seed(0)
    sample_nS = likelihood.sample(params, log_sigma, generator)
    if not likelihood.has_scale:
        assert ((sample_nS >= 0) & (sample_nS <= x_L[-1])).all()

    level_nS = (sample_nS.clamp(0, x_L[-1].item()) / x_L[1]).round()
    often_nL = torch.stack([level_S.bincount(minlength=len(x_L)) for level_S in level_nS.long()])
    often_nL = often_nL.double() / draws
    mass_nL = likelihood.log_mass(
        x_L.expand(len(params), -1),
        parameters(likelihood, settings, len(x_L), device),
        log_sigma,
        levels=levels,
    ).exp()
    error_nL = (mass_nL * (1 - mass_nL) / draws).clamp(min=0).sqrt()
    assert ((often_nL - mass_nL).abs() <= 4.5 * error_nL + 5 / draws).all()

    mean_n = likelihood.mean(params)[:, 0]
    if likelihood.measure(levels) is Measure.MASS:
        torch.testing.assert_close(sample_nS, level_nS * x_L[1])
        expected_n = (mass_nL * x_L).sum(1)
        if levels is None:
            torch.testing.assert_close(mean_n, expected_n, rtol=1e-9, atol=1e-12)
        elif not likelihood.has_scale:
            assert ((mean_n - expected_n).abs() <= 0.5 * x_L[1]).all()
        variance_n = (mass_nL * x_L.square()).sum(1) - expected_n.square()
        torch.testing.assert_close(sample_nS.var(1), variance_n, rtol=0.2, atol=1e-12)
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
    of_levels = likelihood not in DENSITIES or hasattr(likelihood, "levels")
    edge = 0.0 if of_levels else 0.001
    x = torch.tensor(three_values(likelihood, 0.3), dtype=torch.float64, device=device)
    x = (x * (1 - 2 * edge) + edge).repeat(len(params), 1).requires_grad_(not of_levels)
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
    values_n = torch.tensor([*PARAMS, -300.0, 300.0], dtype=dtype, device=device)
    # Other values for each of the data, because some parameters are compared with one another.
    output = torch.stack([values_n.roll(p) for p in range(likelihood.params_per_value)], 1)
    output = torch.stack([output, -output, 0.5 * output], 2).requires_grad_()
    x = torch.tensor(three_values(likelihood, 0.5), dtype=dtype, device=device)
    x = x.expand(len(values_n), 3)
    assert likelihood.features(x).isfinite().all()
    for value in scales(likelihood, LOG_SIGMAS):
        log_sigma = torch.tensor(value, dtype=dtype, device=device, requires_grad=True)
        params = likelihood.conditioned(output, x)
        log_prob = likelihood.log_prob(x, params, log_sigma)
        mean = likelihood.mean(params)
        assert log_prob.isfinite().all()
        assert mean.isfinite().all()
        (gradient,) = torch.autograd.grad(mean.sum(), output, retain_graph=True)
        assert gradient.isfinite().all()
        wanted = [output, log_sigma] if likelihood.has_scale else [output]
        for gradient in torch.autograd.grad(log_prob.sum(), wanted):
            assert gradient.isfinite().all()


@every_likelihood
def test_float32_and_float64_agree(likelihood: Likelihood, device: torch.device) -> None:
    def both(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        params = parameters(likelihood, PARAMS, 3, device).float().to(dtype).requires_grad_()
        x = torch.tensor(three_values(likelihood, 0.25), dtype=dtype, device=device)
        x = x.expand(len(params), 3)
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
    levels = own_levels(likelihood)
    step = 1 / (levels - 1) if levels else 1.0
    generator = torch.Generator().manual_seed(0)
    x_K = torch.randint(0, levels or 9, (3, params_K.shape[1], 3), generator=generator)
    x_K = x_K.to(device) * torch.tensor(step, dtype=torch.float64)
    log_sigma_K = torch.tensor([-2.0, 0.0, 1.0], dtype=torch.float64, device=device)

    def masses(x: Tensor, params: Tensor, log_sigma: Tensor) -> Tensor:
        return likelihood.log_mass(x, params, log_sigma, levels=levels)

    def mean(x: Tensor, params: Tensor, log_sigma: Tensor) -> Tensor:
        return likelihood.mean(params)

    def conditioned(x: Tensor, params: Tensor, log_sigma: Tensor) -> Tensor:
        return likelihood.conditioned(params, x)

    def features(x: Tensor, params: Tensor, log_sigma: Tensor) -> Tensor:
        return likelihood.features(x)

    def optimum(x: Tensor, params: Tensor, log_sigma: Tensor) -> Tensor:
        return likelihood.optimal_log_sigma(x, params)

    functions: list[Callable[[Tensor, Tensor, Tensor], Tensor]] = [likelihood.log_prob, masses]
    functions += [mean, conditioned, features]
    functions += [optimum] if likelihood.has_scale and likelihood.has_optimal_scale else []
    params_K.requires_grad_()
    for function in functions:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            lifted = vmap(function)(x_K, params_K, log_sigma_K)
        one_by_one = [function(x_K[k], params_K[k], log_sigma_K[k]) for k in range(3)]
        torch.testing.assert_close(lifted, torch.stack(one_by_one))
        if function == likelihood.log_prob:
            (gradient_K,) = torch.autograd.grad(lifted.sum(), params_K)
            (alone_K,) = torch.autograd.grad(torch.stack(one_by_one).sum(), params_K)
            torch.testing.assert_close(gradient_K, alone_K)


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
    if hasattr(likelihood, "levels"):
        x = x.clamp(0, 1)

    def cost(log_sigma: float) -> float:
        scale = torch.tensor(log_sigma, dtype=torch.float64, device=device)
        return -likelihood.log_prob(x, params, scale).mean().item()

    best = minimize_scalar(cost, bounds=(-9, 3), method="bounded", options={"xatol": 1e-7}).x
    assert likelihood.optimal_log_sigma(x, params).item() == pytest.approx(best, abs=1e-5)


@pytest.mark.parametrize(
    "likelihood", [o for o in LIKELIHOODS if not (o.has_scale and o.has_optimal_scale)], ids=repr
)
def test_without_an_optimal_scale_it_says_so(likelihood: Likelihood) -> None:
    name = type(likelihood).__name__
    with pytest.raises(NotImplementedError, match=f"{name} has no optimal scale"):
        likelihood.optimal_log_sigma(torch.zeros(1, 1), torch.zeros(1, 1, 1))
