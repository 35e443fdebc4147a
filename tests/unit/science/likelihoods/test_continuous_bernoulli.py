"""The continuous Bernoulli against arithmetic with 60 digits."""

import math

import mpmath
import pytest
import torch

from tune_vae.science.likelihoods.continuous_bernoulli import ContinuousBernoulli

NATURALS = [80.0, 30.0, 5.0, 0.3001, 0.2999, 0.05001, 0.04999, 1e-3, 1e-6, 1e-7, 1e-12]
NATURALS = [-natural for natural in NATURALS] + [0.0, *reversed(NATURALS)]


def log_normaliser(natural: float) -> mpmath.mpf:
    if natural == 0:
        return mpmath.mpf(0)
    natural = mpmath.mpf(natural)
    return mpmath.log(mpmath.expm1(natural) / natural)


def exact_log_prob(x: float, natural: float) -> float:
    with mpmath.workdps(60):
        return float(mpmath.mpf(x) * mpmath.mpf(natural) - log_normaliser(natural))


def exact_mean(natural: float) -> float:
    if natural == 0:
        return 0.5
    with mpmath.workdps(60):
        natural = mpmath.mpf(natural)
        return float(1 / -mpmath.expm1(-natural) - 1 / natural)


def exact_log_mass(low: float, high: float, natural: float) -> float:
    if natural == 0:
        return math.log(high - low)
    with mpmath.workdps(60):
        low, high, natural = mpmath.mpf(low), mpmath.mpf(high), mpmath.mpf(natural)
        difference = mpmath.exp(natural * high) - mpmath.exp(natural * low)
        return float(mpmath.log(difference / mpmath.expm1(natural)))


def naturals(dtype: torch.dtype) -> torch.Tensor:
    return torch.tensor(NATURALS, dtype=dtype)[:, None, None]


@pytest.mark.parametrize(
    ("dtype", "relative", "absolute"),
    [(torch.float64, 1e-9, 1e-14), (torch.float32, 2e-4, 1e-6)],
    ids=str,
)
@pytest.mark.parametrize("x", [0.0, 0.25, 0.5, 1.0])
def test_log_prob_agrees_with_exact_arithmetic(
    x: float, dtype: torch.dtype, relative: float, absolute: float
) -> None:
    params = naturals(dtype)
    got = ContinuousBernoulli().log_prob(
        torch.full((len(NATURALS), 1), x, dtype=dtype), params, torch.zeros((), dtype=dtype)
    )
    exact = [exact_log_prob(x, natural) for natural in params.flatten().tolist()]
    assert got.flatten().tolist() == pytest.approx(exact, rel=relative, abs=absolute)


@pytest.mark.parametrize(
    ("dtype", "relative"), [(torch.float64, 1e-11), (torch.float32, 2e-4)], ids=str
)
def test_mean_agrees_with_exact_arithmetic(dtype: torch.dtype, relative: float) -> None:
    params = naturals(dtype)
    exact = [exact_mean(natural) for natural in params.flatten().tolist()]
    got = ContinuousBernoulli().mean(params).flatten().tolist()
    assert got == pytest.approx(exact, rel=relative)


@pytest.mark.parametrize("level", [0, 1, 128, 255])
def test_log_mass_agrees_with_exact_arithmetic(level: int) -> None:
    params = naturals(torch.float64)
    got = ContinuousBernoulli().log_mass(
        torch.full((len(NATURALS), 1), level / 255, dtype=torch.float64),
        params,
        torch.zeros(()),
        levels=256,
    )
    low, high = max(0.0, (level - 0.5) / 255), min(1.0, (level + 0.5) / 255)
    exact = [exact_log_mass(low, high, natural) for natural in NATURALS]
    assert got.flatten().tolist() == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize("natural", [0.0, 1e-9, -1e-9, 1e-7, 2.0, -80.0])
@pytest.mark.parametrize("x", [0.0, 0.4, 1.0])
def test_score_is_the_data_less_the_mean(x: float, natural: float) -> None:
    """The gradient of an exponential family's log-density in its natural parameter."""
    params = torch.full((1, 1, 1), natural, dtype=torch.float64, requires_grad=True)
    log_prob = ContinuousBernoulli().log_prob(
        torch.full((1, 1), x, dtype=torch.float64), params, torch.zeros(())
    )
    (gradient,) = torch.autograd.grad(log_prob.sum(), params)
    assert gradient.item() == pytest.approx(x - exact_mean(natural), abs=1e-9)


def test_mirroring_the_data_mirrors_the_parameter() -> None:
    x = torch.linspace(0, 1, 11, dtype=torch.float64).expand(len(NATURALS), 11)
    params = naturals(torch.float64).expand(-1, 1, 11)
    likelihood, zero = ContinuousBernoulli(), torch.zeros(())
    torch.testing.assert_close(
        likelihood.log_prob(x, params, zero), likelihood.log_prob(1 - x, -params, zero)
    )
    torch.testing.assert_close(likelihood.mean(params), 1 - likelihood.mean(-params))


def test_grey_pixel_of_a_blind_decoder_costs_nothing() -> None:
    x = torch.rand(5, 3, generator=torch.Generator().manual_seed(0))
    assert not ContinuousBernoulli().log_prob(x, torch.zeros(5, 1, 3), torch.zeros(())).any()
