"""What is special to counts; their numbers are checked in `test_oracles.py` too."""

import math

import pytest
import torch
from scipy.stats import nbinom, poisson
from torch import Tensor

from tune_vae.science.likelihoods import Likelihood, Measure
from tune_vae.science.likelihoods.negative_binomial import NegativeBinomial
from tune_vae.science.likelihoods.poisson import Poisson
from tune_vae.science.likelihoods.zero_inflated_negative_binomial import (
    ZeroInflatedNegativeBinomial,
)

FAMILY = [Poisson, NegativeBinomial, ZeroInflatedNegativeBinomial]
ZERO = torch.zeros((), dtype=torch.float64)

every_one = pytest.mark.parametrize("make", FAMILY)


def outputs(likelihood: Likelihood, spread: float = 1.0) -> Tensor:
    """What a decoder may give for five examples of seven values."""
    generator = torch.Generator().manual_seed(0)
    shape = (5, likelihood.params_per_value, 7, 1, 1)
    return spread * torch.randn(shape, generator=generator, dtype=torch.float64)


def counts() -> Tensor:
    rate = torch.tensor([0.0, 0.1, 3.0, 40.0, 1e4], dtype=torch.float64)[:, None, None, None]
    generator = torch.Generator().manual_seed(1)
    return torch.poisson(rate.expand(5, 7, 1, 1).contiguous(), generator=generator)


def log_probs(likelihood: Likelihood, params: list[float], log_sigma: float) -> Tensor:
    """Of the counts 0 to 99."""
    x = torch.arange(100, dtype=torch.float64)[None]
    params_ = torch.tensor(params, dtype=torch.float64)[None, :, None].expand(-1, -1, 100)
    return likelihood.log_prob(x, params_, torch.tensor(log_sigma, dtype=torch.float64))[0]


@every_one
def test_means_add_up_to_the_observed_library_size(make: type[Likelihood]) -> None:
    likelihood, x = make(), counts()
    assert x[0].sum() == 0
    for spread in (1.0, 300.0):
        params = likelihood.conditioned(outputs(likelihood, spread), x)
        total = params[:, 0].exp().flatten(1).sum(1)
        torch.testing.assert_close(total, x.flatten(1).sum(1).clamp(min=1))


@every_one
def test_imagined_examples_have_the_stated_library_size(make: type[Likelihood]) -> None:
    for size in (1.0, 2500.0):
        likelihood = make(library_size=size)
        params = likelihood.conditioned(outputs(likelihood), None)
        total = params[:, 0].exp().flatten(1).sum(1)
        torch.testing.assert_close(total, torch.full_like(total, size))


@every_one
def test_a_library_is_shared_in_proportion_to_the_exponential_of_the_output(
    make: type[Likelihood],
) -> None:
    likelihood, x = make(), counts()
    output = outputs(likelihood)
    params = likelihood.conditioned(output, x)
    ratio = (params - output)[:, 0].flatten(1)
    torch.testing.assert_close(ratio, ratio[:, :1].expand(-1, 7))
    assert torch.equal(params[:, 1:], output[:, 1:])


@every_one
def test_without_a_library_the_mean_is_the_exponential_and_cannot_overflow(
    make: type[Likelihood],
) -> None:
    likelihood, x = make(library="none"), counts()
    output = outputs(likelihood)
    params = likelihood.conditioned(output, x)
    torch.testing.assert_close(params, output, rtol=0, atol=1e-7)
    assert torch.equal(params, likelihood.conditioned(output, None))
    wild = torch.tensor([-1e30, -300.0, 300.0, 1e30])[None, None].expand(
        1, likelihood.params_per_value, -1
    )
    log_mean = likelihood.conditioned(wild, None)[:, 0]
    torch.testing.assert_close(log_mean, torch.tensor([[-1e30, -300.0, 20.0, 20.0]]))


@every_one
def test_encoder_sees_logarithms(make: type[Likelihood]) -> None:
    torch.testing.assert_close(make().features(counts()), (counts() + 1).log())


@every_one
@pytest.mark.parametrize("size", [0.5, 0.0, -1.0, math.inf, math.nan])
def test_a_library_that_no_example_can_have_is_refused(
    make: type[Likelihood], size: float
) -> None:
    with pytest.raises(
        ValueError, match=f"library_size must be at least 1 and finite, got {size}"
    ):
        make(library_size=size)


@every_one
def test_on_grey_levels_it_has_no_number(make: type[Likelihood]) -> None:
    likelihood = make()
    assert likelihood.measure(None) is Measure.MASS
    assert likelihood.measure(256) is Measure.IMPROPER
    params = likelihood.conditioned(outputs(likelihood), counts())
    assert likelihood.log_mass(counts(), params, ZERO, levels=256).isnan().all()
    assert "distribution of counts, and the data are 256 grey levels" in likelihood.misfit(256)


@pytest.mark.parametrize("mean", [1e-8, 0.3, 7.0, 60.0])
def test_poisson_is_that_of_scipy(mean: float) -> None:
    got = log_probs(Poisson(), [math.log(mean)], 0.0)
    exact = poisson.logpmf(range(100), mean)
    assert got.tolist() == pytest.approx(exact.tolist(), rel=1e-9, abs=1e-14)


@pytest.mark.parametrize("mean", [0.3, 7.0, 60.0])
@pytest.mark.parametrize("sigma", [0.1, 1.0, 5.0])
def test_negative_binomial_is_that_of_scipy(mean: float, sigma: float) -> None:
    got = log_probs(NegativeBinomial(), [math.log(mean)], math.log(sigma))
    theta = sigma**-2
    exact = nbinom.logpmf(range(100), theta, theta / (theta + mean))
    assert got.tolist() == pytest.approx(exact.tolist(), rel=1e-9, abs=1e-14)


def test_without_variation_a_negative_binomial_is_poisson() -> None:
    for mean in (1e-3, 1.0, 30.0):
        got = log_probs(NegativeBinomial(), [math.log(mean)], math.log(1e-7))
        torch.testing.assert_close(got, log_probs(Poisson(), [math.log(mean)], 0.0))


def test_negative_binomial_of_variation_1_is_geometric() -> None:
    got = log_probs(NegativeBinomial(), [math.log(4.0)], 0.0)
    geometric = math.log(0.2) + math.log(0.8) * torch.arange(100, dtype=torch.float64)
    torch.testing.assert_close(got, geometric)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("log_sigma", [-9.2, -2.0, 0.0, 9.2])
def test_pull_of_a_count_is_its_distance_in_units_of_the_variance(
    log_sigma: float, dtype: torch.dtype
) -> None:
    """The derivative in log µ, (x - µ) µ / variance, from a mean of 1e-8 to one of 1e6."""
    log_mean = torch.linspace(-18, 14, 33, dtype=dtype)
    x = torch.tensor([0.0, 1.0, 1000.0, 1e6], dtype=dtype)[:, None].expand(-1, 33)
    params = log_mean.expand(4, 1, 33).clone().requires_grad_()
    likelihood = NegativeBinomial()
    log_prob = likelihood.log_prob(x, params, torch.tensor(log_sigma, dtype=dtype))
    (gradient,) = torch.autograd.grad(log_prob.sum(), params)
    mean = log_mean.double().exp()
    exact = (x - mean) / (1 + math.exp(2 * log_sigma) * mean)
    tolerance = 2e-4 if dtype == torch.float32 else 1e-9
    torch.testing.assert_close(gradient[:, 0].double(), exact, rtol=tolerance, atol=10 * tolerance)


def test_float32_keeps_four_digits_from_the_least_to_the_most_dispersed() -> None:
    generator = torch.Generator().manual_seed(0)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(20_000, 1, generator=generator)

    log_mean, log_sigma = uniform(-18.4, 13.8), uniform(-9.2, 9.2)
    # Half of the counts are near the mean.
    log_x = torch.where(uniform(0, 1) < 0.5, log_mean + uniform(-0.1, 0.1), uniform(-1, 13.8))
    x = log_x.exp().round()
    dropout = uniform(-20, 20)
    for likelihood, params in (
        (Poisson(), [log_mean]),
        (NegativeBinomial(), [log_mean]),
        (ZeroInflatedNegativeBinomial(), [log_mean, dropout]),
    ):
        params_ = torch.stack(params, 1)
        single = likelihood.log_prob(x, params_, log_sigma)
        double = likelihood.log_prob(x.double(), params_.double(), log_sigma.double())
        torch.testing.assert_close(single.double(), double, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("sigma", [0.05, 0.5, 2.0])
def test_draws_vary_by_mean_and_squared_mean(sigma: float) -> None:
    log_mean, log_sigma = math.log(20.0), torch.tensor(math.log(sigma))
    generator = torch.Generator().manual_seed(0)
    sample = NegativeBinomial().sample(torch.full((1, 1, 200_000), log_mean), log_sigma, generator)
    assert torch.equal(sample, sample.round())
    assert sample.mean().item() == pytest.approx(20, rel=0.02)
    assert sample.var().item() == pytest.approx(20 + sigma**2 * 400, rel=0.04)

    # With 30 % lost.
    lost = math.log(0.3 / 0.7)
    params = torch.tensor([log_mean, lost])[None, :, None].expand(-1, -1, 200_000)
    likelihood = ZeroInflatedNegativeBinomial()
    sample = likelihood.sample(params, log_sigma, generator)
    assert likelihood.mean(params)[0, 0].item() == pytest.approx(14)
    assert sample.mean().item() == pytest.approx(14, rel=0.02)
    variance = 0.7 * (20 + sigma**2 * 400) + 0.3 * 0.7 * 400
    assert sample.var().item() == pytest.approx(variance, rel=0.04)


def test_most_dispersed_draws_are_nearly_all_zero_and_never_wrong() -> None:
    params = torch.full((1, 1, 10_000), math.log(1e-3))
    log_sigma = torch.tensor(-0.5 * math.log(1e-8))
    sample = NegativeBinomial().sample(params, log_sigma, torch.Generator().manual_seed(0))
    assert sample.isfinite().all()
    assert (sample == 0).double().mean() > 0.999


def test_dropout_only_adds_zeros() -> None:
    likelihood = ZeroInflatedNegativeBinomial()
    plain = log_probs(NegativeBinomial(), [1.0], -1.0)
    torch.testing.assert_close(log_probs(likelihood, [1.0, -80.0], -1.0), plain)
    assert log_probs(likelihood, [1.0, 80.0], -1.0)[0].item() == pytest.approx(0, abs=1e-30)
    mixed = log_probs(likelihood, [1.0, math.log(0.3 / 0.7)], -1.0).exp()
    torch.testing.assert_close(mixed[1:], 0.7 * plain[1:].exp())
    torch.testing.assert_close(mixed[0], 0.3 + 0.7 * plain[0].exp())
