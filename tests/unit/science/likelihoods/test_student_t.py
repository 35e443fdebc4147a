"""What is special to Student's t; its numbers are checked in `test_oracles.py`."""

import math

import pytest
import torch
from scipy.stats import t as student

from tune_vae.science.likelihoods.gaussian import Gaussian
from tune_vae.science.likelihoods.student_t import StudentT


@pytest.mark.parametrize("degrees", [1.5, 4.0, 30.0])
def test_draws_have_the_quantiles_of_scipy(degrees: float) -> None:
    params, log_sigma = torch.zeros(1, 1, 50_000).double(), torch.tensor(-1.0).double()
    likelihood = StudentT(degrees=degrees, link="identity")
    sample = likelihood.sample(params, log_sigma, torch.Generator().manual_seed(0))
    for share in (0.01, 0.25, 0.5, 0.9):
        below = (sample < student.ppf(share, degrees, scale=math.exp(-1))).double().mean()
        error = math.sqrt(share * (1 - share) / 50_000)
        assert below.item() == pytest.approx(share, abs=4.5 * error)


def test_one_value_far_off_hardly_moves_the_optimal_scale() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(100, 10, generator=generator, dtype=torch.float64)
    params = torch.zeros(100, 1, 10, dtype=torch.float64)
    spoilt = x.clone()
    spoilt[0, 0] = 1e6

    def shift(likelihood: StudentT | Gaussian) -> float:
        before = likelihood.optimal_log_sigma(x, params)
        return (likelihood.optimal_log_sigma(spoilt, params) - before).item()

    assert 0 < shift(StudentT(link="identity")) < 0.01
    assert shift(Gaussian(link="identity")) > 10


def test_optimal_scale_of_images_that_are_met_exactly_is_tiny_and_finite() -> None:
    x = torch.rand(4, 3, generator=torch.Generator().manual_seed(0))
    log_sigma = StudentT(link="identity").optimal_log_sigma(x, x[:, None])
    assert -60 < log_sigma.item() < -30


def test_many_degrees_approach_the_gaussian() -> None:
    x = torch.linspace(0, 1, 17, dtype=torch.float64)[None]
    params, log_sigma = torch.zeros(1, 1, 17).double(), torch.tensor(-1.0).double()
    for levels in (17, 256):
        torch.testing.assert_close(
            StudentT(degrees=100.0).log_mass(x, params, log_sigma, levels=levels),
            Gaussian().log_mass(x, params, log_sigma, levels=levels),
            rtol=0.01,
            atol=0,
        )


@pytest.mark.parametrize("degrees", [1.0, 0.0, 101.0, math.inf, math.nan])
def test_degrees_without_a_mean_or_without_a_tail_are_refused(degrees: float) -> None:
    with pytest.raises(ValueError, match=f"above 1 and at most 100, got {degrees}"):
        StudentT(degrees=degrees)
