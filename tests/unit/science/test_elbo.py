"""Rate and units, against arithmetic with 80 digits; see `tests/oracles/make_rates.py`."""

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tune_vae.science.elbo import rate_nats
from tune_vae.science.units import beta_from_norm, beta_to_norm, bits_per_dim

FILE = Path(__file__).parents[2] / "oracles" / "rates.json"
VECTORS = json.loads(FILE.read_text())

every_dtype = pytest.mark.parametrize(
    ("dtype", "relative"), [(torch.float64, 1e-9), (torch.float32, 2e-4)], ids=str
)


@pytest.fixture
def arguments(dtype: torch.dtype, device: torch.device) -> list[Tensor]:
    """Means and log-variances of posterior and prior, a column for each vector."""
    columns = zip(*(row[:4] for row in VECTORS["rates"]), strict=True)
    return [
        torch.tensor(column, dtype=dtype, device=device, requires_grad=True) for column in columns
    ]


@every_dtype
def test_rate_is_exact_to_the_last_nat_and_the_first_trace(
    arguments: list[Tensor], dtype: torch.dtype, relative: float
) -> None:
    """From 5e11 nats to 2e-13: no absolute tolerance."""
    exact = [row[4] for row in VECTORS["rates"]]
    assert rate_nats(*arguments).tolist() == pytest.approx(exact, rel=relative, abs=0)
    assert exact.count(0.0) == 3


@every_dtype
def test_gradient_of_the_rate_is_exact(
    arguments: list[Tensor], dtype: torch.dtype, relative: float
) -> None:
    gradients = torch.autograd.grad(rate_nats(*arguments).sum(), arguments)
    for place, gradient in enumerate(gradients):
        exact = [row[5][place] for row in VECTORS["rates"]]
        assert gradient.tolist() == pytest.approx(exact, rel=relative, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_rate_is_0_at_the_prior_and_nowhere_below(dtype: torch.dtype) -> None:
    log_variance = torch.cat([torch.linspace(-2e-2, 2e-2, 40_001), torch.linspace(-90, 80, 999)])
    log_variance = log_variance.to(dtype)
    zeros = torch.zeros_like(log_variance)
    rate = rate_nats(zeros, log_variance, zeros, zeros)
    assert (rate >= 0).all()
    assert rate.isfinite().all()
    assert (rate_nats(log_variance, log_variance, log_variance, log_variance) == 0).all()


def test_rate_has_no_step_where_its_two_formulas_meet() -> None:
    for edge in (0.01, -0.01):
        around = [math.nextafter(edge, -1), edge, math.nextafter(edge, 1)]
        ratio = torch.tensor(around, dtype=torch.float64)
        zeros = torch.zeros_like(ratio)
        below, at, above = rate_nats(zeros, ratio, zeros, zeros).tolist()
        assert below == pytest.approx(at, rel=1e-10, abs=0)
        assert above == pytest.approx(at, rel=1e-10, abs=0)


@pytest.mark.parametrize("wild", [1e4, -1e4, 1e30, -1e30, math.inf, math.nan])
def test_posterior_beyond_measure_does_not_spoil_the_gradients_of_others(wild: float) -> None:
    log_variance = torch.tensor([wild, 0.5], requires_grad=True)
    zeros = torch.zeros(2)
    rate = rate_nats(zeros, log_variance, zeros, zeros)
    (gradient,) = torch.autograd.grad(rate.sum(), log_variance)
    assert gradient[1].item() == pytest.approx(0.5 * math.expm1(0.5), rel=1e-6)
    if wild < 0:
        assert rate[0].item() == pytest.approx(-wild / 2, rel=1e-3)
        assert gradient[0] == -0.5
    else:
        assert not rate[0].isfinite()


def test_bits_of_a_uniform_guess_are_the_bits_of_a_level() -> None:
    assert bits_per_dim(784 * math.log(256), values=784) == pytest.approx(8.0, rel=1e-12)
    assert bits_per_dim(64 * math.log(2), values=64) == pytest.approx(1.0, rel=1e-12)


def test_beta_and_its_norm_are_exact() -> None:
    for norm, values, latents, beta in VECTORS["betas"]:
        got = beta_from_norm(norm, values=values, latents=latents)
        assert got == pytest.approx(beta, rel=1e-9)
        assert beta_to_norm(beta, values=values, latents=latents) == pytest.approx(norm, rel=1e-9)


@pytest.mark.parametrize("beta", [0.0, 1e-3, 1.0, 250.0])
def test_beta_survives_the_round_trip_through_its_norm(beta: float) -> None:
    norm = beta_to_norm(beta, values=784, latents=20)
    assert beta_from_norm(norm, values=784, latents=20) == pytest.approx(beta, rel=1e-12)


def test_norm_is_one_when_a_latent_weighs_as_much_as_a_value() -> None:
    assert beta_from_norm(1.0, values=100, latents=25) == 4.0
