"""Collapse points against scipy, closed forms, and trainings on either side of them."""

import math

import numpy as np
import pytest
import torch
from scipy import linalg
from torch import Tensor

from tune_vae.science.collapse_point import CollapsePoints, collapse_points, spectral_peak
from tune_vae.science.likelihoods import Likelihood
from tune_vae.science.likelihoods.bernoulli import Bernoulli
from tune_vae.science.likelihoods.continuous_bernoulli import ContinuousBernoulli
from tune_vae.science.likelihoods.gaussian import Gaussian
from tune_vae.science.likelihoods.laplace import Laplace
from tune_vae.science.networks.mlp import Mlp
from tune_vae.science.sigmas import Sigma
from tune_vae.science.sigmas.fixed import Fixed
from tune_vae.science.sigmas.optimal import Optimal
from tune_vae.science.sigmas.per_image import PerImage
from tune_vae.science.sigmas.per_pixel import PerPixel
from tune_vae.science.sigmas.shared import Shared
from tune_vae.science.vae import VAE


@pytest.mark.parametrize(("examples", "values"), [(60, 12), (12, 60)])
def test_peak_is_the_largest_eigenvalue_over_the_mean_of_all(examples: int, values: int) -> None:
    generator = torch.Generator().manual_seed(0)
    scales = torch.linspace(0.1, 2, values)
    x = torch.randn(examples, values, generator=generator) * scales
    covariance = np.cov(x.double().numpy(), rowvar=False)
    eigenvalues = np.linalg.eigvalsh(covariance)
    expected = eigenvalues[-1] / (np.trace(covariance) / values)
    assert spectral_peak(x).item() == pytest.approx(expected)


def test_peak_of_one_constant_example_is_not_a_number() -> None:
    assert spectral_peak(torch.ones(5, 3)).isnan()


def grey(examples: int, values: int, *, seed: int = 0) -> Tensor:
    """Images of two factors, in (0, 1), with a margin that is always 0."""
    generator = torch.Generator().manual_seed(seed)
    factors = torch.randn(examples, 2, generator=generator, dtype=torch.float64)
    weights = torch.randn(2, values, generator=generator, dtype=torch.float64)
    noise = 0.3 * torch.randn(examples, values, generator=generator, dtype=torch.float64)
    x = (factors @ weights + noise).sigmoid()
    return torch.cat([x, torch.zeros(examples, 3)], 1).reshape(examples, 1, 1, values + 3)


@pytest.mark.parametrize(("examples", "values"), [(400, 12), (80, 120)])
def test_points_are_the_eigenvalues_of_the_covariance_in_units_of_the_decoder(
    examples: int, values: int
) -> None:
    x = grey(examples, values)
    points, seen = collapse_points(x), x.flatten(1).numpy()
    covariance, mean = np.cov(seen, rowvar=False, bias=True), seen.mean(0)
    largest = np.linalg.eigvalsh(covariance)[-1]
    assert points.variance == pytest.approx(covariance.trace() / (values + 3))
    assert points.beta(Gaussian(), Fixed(0.2)) == pytest.approx(largest / 0.04)
    for sigma in (Shared(), Optimal()):
        assert points.beta(Gaussian(), sigma) == pytest.approx(
            largest / (covariance.trace() / (values + 3))
        )
    # The margin has no variance, and no problem to solve.
    inner, flips = covariance[:-3, :-3], np.diag((mean * (1 - mean))[:-3])
    generalised = linalg.eigh(inner, flips, eigvals_only=True)[-1]
    assert points.beta(Bernoulli(), None) == pytest.approx(generalised)


def test_outliers_are_worth_their_divergence_for_the_nats_that_tell_them_apart() -> None:
    # One black image of 100 in 8 values: with sigma 1 it gains the half of 8 · 0.99².
    x = torch.zeros(100, 1, 2, 4)
    x[0] = 1.0
    points = collapse_points(x)
    assert points.beta(Gaussian(), Fixed(1.0)) == pytest.approx(4 * 0.99**2 / math.log(100))
    # Of certain flips it gains ln 100 for each value, and pays that once for all of them.
    assert points.beta(Bernoulli(), None) == pytest.approx(8.0)
    halves = torch.cat([torch.zeros(50, 8), torch.ones(50, 8)])
    assert collapse_points(halves).beta(Gaussian(), Fixed(1.0)) == pytest.approx(8 / 4)


@pytest.mark.parametrize(
    ("likelihood", "sigma"),
    [
        (ContinuousBernoulli(), None),
        (Laplace(), Optimal()),
        (Gaussian(), PerImage()),
        (Gaussian(), PerPixel()),
    ],
)
def test_nothing_is_said_of_decoders_without_a_known_point(
    likelihood: Likelihood, sigma: Sigma | None
) -> None:
    assert collapse_points(grey(50, 4)).beta(likelihood, sigma) is None


@pytest.mark.parametrize("x", [torch.full((9, 1, 2, 2), 0.5), torch.rand(1, 1, 2, 2)])
def test_nothing_is_said_of_data_that_are_all_the_same(x: Tensor) -> None:
    points = collapse_points(x)
    assert points == CollapsePoints(0.0, 0.0, 0.0)
    for likelihood, sigma in ((Gaussian(), Optimal()), (Gaussian(), Fixed()), (Bernoulli(), None)):
        assert points.beta(likelihood, sigma) is None


def trained_rate(
    x_BCHW: Tensor, likelihood: Likelihood, sigma: Sigma | None, beta: float
) -> float:
    """Nats that a linear VAE ends with after it was trained on all data at once."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vae = VAE(
            network=Mlp(hidden=()),
            likelihood=likelihood,
            sigma=sigma,
            shape=tuple(x_BCHW.shape[1:]),  # type: ignore[arg-type]
            latent_dim=1,
        ).double()
        optimiser = torch.optim.Adam(vae.parameters(), lr=0.02)
        for _ in range(700):
            noise = torch.randn(len(x_BCHW) // 2, 1, dtype=torch.float64)
            # Both signs, which leave less to chance.
            terms = vae(x_BCHW, torch.cat([noise, -noise]))
            loss = (terms.distortion_B + beta * terms.rate_BM.sum(1)).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        return terms.rate_BM.detach().sum(1).mean().item()


@pytest.mark.parametrize(
    ("likelihood", "sigma"),
    [
        (Gaussian(link="identity"), Fixed(0.2)),
        (Gaussian(link="identity"), Optimal()),
        (Bernoulli(), None),
    ],
    ids=["fixed", "optimal", "bernoulli"],
)
def test_latents_form_below_the_point_and_not_above(
    likelihood: Likelihood, sigma: Sigma | None
) -> None:
    generator = torch.Generator().manual_seed(1)
    factor = torch.randn(512, 1, generator=generator, dtype=torch.float64)
    logit = 1.2 * factor * torch.tensor([1.0, -1.0] * 4, dtype=torch.float64)
    noise = 0.5 * torch.randn(512, 8, generator=generator, dtype=torch.float64)
    x = (logit + noise - 0.4).sigmoid().reshape(512, 1, 2, 4)
    point = collapse_points(x).beta(likelihood, sigma)
    assert point is not None
    # Of a Gaussian source it would be half the logarithm of the factor: 0.14 nats.
    assert trained_rate(x, likelihood, sigma, 0.75 * point) > 0.1
    assert trained_rate(x, likelihood, sigma, 1.25 * point) < 0.01
