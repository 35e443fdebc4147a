import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.stats import nbinom

from tune_vae.science.likelihoods.gaussian import Gaussian
from tune_vae.science.likelihoods.negative_binomial import NegativeBinomial
from tune_vae.science.sigmas.per_gene import PerGene

SHAPE = (5, 1, 2)
EXAMPLES = torch.full((2, *SHAPE), 0.5)
NOTHING = torch.empty(2, 0, *SHAPE)


@pytest.mark.parametrize("start", [0.1, 1.0, 5.0])
def test_every_value_starts_where_stated(start: float) -> None:
    """The soft bounds move sigma by less than 0.003 / start and 0.003 start of it."""
    log_sigma = PerGene(start=start).build(SHAPE)(EXAMPLES, EXAMPLES[:, None], NOTHING, Gaussian())
    tolerance = 0.003 * max(start, 1 / start)
    torch.testing.assert_close(log_sigma.exp(), torch.full(SHAPE, start), rtol=tolerance, atol=0)


def test_gradient_descent_finds_the_sigma_of_each_value() -> None:
    generator = torch.Generator().manual_seed(0)
    spread = torch.linspace(0.05, 0.5, 10, dtype=torch.float64).reshape(SHAPE)
    x = 0.5 + spread * torch.randn(50, *SHAPE, generator=generator, dtype=torch.float64)
    params = torch.full((50, 1, *SHAPE), 0.5, dtype=torch.float64)
    likelihood, scale = Gaussian(link="identity"), PerGene(start=0.3).build(SHAPE).double()
    for _ in range(400):
        log_sigma = scale(x, params, params[:, :0], likelihood)
        cost = -likelihood.log_prob(x, params, log_sigma).mean()
        (gradient,) = torch.autograd.grad(cost, list(scale.parameters()))
        with torch.no_grad():
            scale.free_log_sigma -= 2.0 * gradient
    variance = (x - 0.5).square().mean(0)
    torch.testing.assert_close((2 * log_sigma).exp(), variance, rtol=1e-4, atol=0)


def test_gradient_descent_finds_the_dispersion_of_each_gene() -> None:
    """The most probable inverse dispersion of each gene's counts is scipy's."""
    rng = np.random.default_rng(0)
    mean, sigma = np.array([2.0, 5.0, 20.0, 50.0]), np.array([1.5, 0.3, 0.8, 0.4])
    counts = rng.negative_binomial(sigma**-2, 1 / (1 + mean * sigma**2), size=(300, 4))

    def best(gene: int) -> float:
        def cost(log_sigma: float) -> float:
            theta = math.exp(-2 * log_sigma)
            chance = theta / (theta + mean[gene])
            return -nbinom.logpmf(counts[:, gene], theta, chance).mean()

        return minimize_scalar(cost, bounds=(-4, 2), method="bounded", options={"xatol": 1e-7}).x

    x = torch.from_numpy(counts).double().reshape(300, 4, 1, 1)
    raw = torch.from_numpy(mean).log().reshape(1, 1, 4, 1, 1).expand(300, -1, -1, -1, -1)
    likelihood, scale = NegativeBinomial(library="none"), PerGene().build((4, 1, 1)).double()
    params = likelihood.conditioned(raw, x)
    for _ in range(200):
        log_sigma = scale(x, params, params[:, :0], likelihood)
        cost = -likelihood.log_prob(x, params, log_sigma).mean(0).sum()
        (gradient,) = torch.autograd.grad(cost, list(scale.parameters()))
        with torch.no_grad():
            scale.free_log_sigma -= 0.5 * gradient
    expected = torch.tensor([best(gene) for gene in range(4)], dtype=torch.float64)
    torch.testing.assert_close(log_sigma.flatten(), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("start", "bound"), [(1e-30, -6), (1e30, 6)])
def test_no_gene_drives_its_sigma_beyond_a_bound(start: float, bound: float) -> None:
    scale = PerGene(start=start).build(SHAPE)
    log_sigma = scale(EXAMPLES, EXAMPLES[:, None], NOTHING, Gaussian())
    torch.testing.assert_close(log_sigma, torch.full(SHAPE, float(bound)), rtol=0, atol=1e-4)


def test_different_starts_fit_into_one_pack() -> None:
    assert PerGene(start=0.1).pack_key() == PerGene(start=0.2).pack_key()


@pytest.mark.parametrize("start", [0.0, -1.0, math.inf, math.nan])
def test_start_without_a_finite_logarithm_is_refused(start: float) -> None:
    with pytest.raises(ValueError, match=f"start must be positive and finite, got {start}"):
        PerGene(start=start)
