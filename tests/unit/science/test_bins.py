"""Bins of counts, and the quadrature; bins of grey levels are checked with the likelihoods."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.stats import laplace, logistic, norm

from tune_vae.science.bins import (
    bin_width,
    gauss_legendre,
    gaussian_log_mass,
    laplace_log_mass,
    logistic_log_mass,
)


@pytest.mark.parametrize(
    ("log_mass", "distribution"),
    [(gaussian_log_mass, norm), (laplace_log_mass, laplace), (logistic_log_mass, logistic)],
)
@pytest.mark.parametrize("mean", [0.0, 0.3, 7.0])
@pytest.mark.parametrize("scale", [0.2, 1.0, 5.0])
def test_a_count_stands_for_the_values_that_round_to_it_and_0_for_all_below(
    log_mass: Callable[..., torch.Tensor], distribution: object, mean: float, scale: float
) -> None:
    x = torch.arange(300, dtype=torch.float64)
    mean_, log_scale = torch.tensor([mean, scale], dtype=torch.float64).unbind()
    mass = log_mass(x, mean_, log_scale.log(), levels=None).exp()
    assert bin_width(None) == 1
    ends = distribution(loc=mean, scale=scale).cdf(np.arange(300) + 0.5)
    exact = np.diff(ends, prepend=0.0)
    assert mass.tolist() == pytest.approx(exact.tolist(), rel=1e-9, abs=1e-14)


@pytest.mark.parametrize("points", [2, 6, 36])
def test_quadrature_is_exact_for_polynomials_of_its_degree(points: int) -> None:
    """Up to twice the number of points less one; odd powers cancel."""
    for power in range(2 * points):
        mean = gauss_legendre(
            lambda u, n=power: torch.tensor(u**n, dtype=torch.float64), points=points
        )
        exact = 0 if power % 2 else 1 / (power + 1)
        assert mean.item() == pytest.approx(exact, rel=1e-13, abs=1e-16)
