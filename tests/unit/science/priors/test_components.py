"""Mixtures, against arithmetic with 80 digits; see `tests/oracles/make_rates.py`."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import logsumexp
from torch import Tensor

from tune_vae.science.elbo import rate_nats
from tune_vae.science.priors import Components

VECTORS = json.loads((Path(__file__).parents[3] / "oracles" / "rates.json").read_text())

every_dtype = pytest.mark.parametrize(
    ("dtype", "relative"), [(torch.float64, 1e-9), (torch.float32, 2e-4)], ids=str
)


def mixture(components: int, latents: int) -> Components:
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(2, components, latents, generator=generator, dtype=torch.float64)
    logits = torch.randn(components, generator=generator, dtype=torch.float64)
    return Components(2 * drawn[0], drawn[1], logits.log_softmax(0))


def batch(latents: int) -> tuple[Tensor, Tensor, Tensor]:
    """Means, log-variances and samples of 20 posteriors."""
    generator = torch.Generator().manual_seed(1)
    drawn = 2 * torch.randn(3, 20, latents, generator=generator, dtype=torch.float64)
    return drawn[0], drawn[1], drawn[2]


@every_dtype
def test_rate_of_each_latent_and_density_are_exact(
    dtype: torch.dtype, relative: float, device: torch.device
) -> None:
    for row in VECTORS["mixtures"]:
        given = [torch.tensor(value, dtype=dtype, device=device) for value in row[:6]]
        components = Components(given[1], given[2], given[0].log_softmax(0))
        mean_BM, log_variance_BM, latent_BM = (value[None] for value in given[3:])
        rate_BM = components.rate_nats(mean_BM, log_variance_BM, latent_BM)
        log_prob_B = components.log_prob(latent_BM)
        assert log_prob_B.tolist() == pytest.approx(row[7:], rel=relative)
        # Each is a difference of log-densities of all latents up to it.
        largest = max(map(abs, [*row[6], row[7], 1.0]))
        assert rate_BM[0].tolist() == pytest.approx(row[6], rel=relative, abs=relative * largest)


@pytest.mark.parametrize("latents", [1, 2, 7])
@pytest.mark.parametrize("components", [2, 5])
def test_rates_of_the_latents_sum_to_the_log_ratio(components: int, latents: int) -> None:
    prior = mixture(components, latents)
    mean_BM, log_variance_BM, latent_BM = batch(latents)
    z = latent_BM.numpy()
    each = [
        stats.multivariate_normal(mean, np.diag(np.exp(log_variance))).logpdf(z)
        for mean, log_variance in zip(
            prior.mean_CM.numpy(), prior.log_variance_CM.numpy(), strict=True
        )
    ]
    log_p = logsumexp(np.stack(each, -1) + prior.log_weight_C.numpy(), axis=-1)
    log_q = [
        stats.multivariate_normal(mean, np.diag(np.exp(log_variance))).logpdf(one)
        for mean, log_variance, one in zip(
            mean_BM.numpy(), log_variance_BM.numpy(), z, strict=True
        )
    ]
    assert prior.log_prob(latent_BM).numpy() == pytest.approx(log_p, rel=1e-10)
    rate_BM = prior.rate_nats(mean_BM, log_variance_BM, latent_BM)
    assert rate_BM.sum(1).numpy() == pytest.approx(np.array(log_q) - log_p, rel=1e-9)


def test_what_a_latent_costs_depends_on_those_before_it_only() -> None:
    prior = mixture(4, 5)
    mean_BM, log_variance_BM, latent_BM = batch(5)
    whole = prior.rate_nats(mean_BM, log_variance_BM, latent_BM)
    first = Components(prior.mean_CM[:, :3], prior.log_variance_CM[:, :3], prior.log_weight_C)
    part = first.rate_nats(mean_BM[:, :3], log_variance_BM[:, :3], latent_BM[:, :3])
    torch.testing.assert_close(whole[:, :3], part)


def test_one_component_has_the_rate_in_closed_form() -> None:
    prior = mixture(1, 4)
    mean_BM, log_variance_BM, latent_BM = batch(4)
    exact = rate_nats(mean_BM, log_variance_BM, prior.mean_CM, prior.log_variance_CM)
    rate_BM = prior.rate_nats(mean_BM, log_variance_BM, torch.full_like(latent_BM, torch.nan))
    assert torch.equal(rate_BM, exact)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_posterior_that_is_the_prior_costs_nothing(dtype: torch.dtype) -> None:
    one = mixture(1, 4)
    mean_CM, log_variance_CM = one.mean_CM.to(dtype), one.log_variance_CM.to(dtype)
    latent_BM = batch(4)[2].to(dtype)
    given = mean_CM.expand(20, 4), log_variance_CM.expand(20, 4), latent_BM
    alone = Components(mean_CM, log_variance_CM, one.log_weight_C.to(dtype))
    assert (alone.rate_nats(*given) == 0).all()
    # Several components that are one cost nothing at any sample, but for rounding.
    three = Components(
        mean_CM.expand(3, 4),
        log_variance_CM.expand(3, 4),
        torch.tensor([0.5, 0.25, 0.25], dtype=dtype).log(),
    )
    assert three.rate_nats(*given).abs().max() < 100 * torch.finfo(dtype).eps


def test_gradient_is_finite_far_from_every_component() -> None:
    prior = mixture(3, 4)
    latent_BM = torch.tensor([[1e4] * 4, [-1e4] * 4], dtype=torch.float32, requires_grad=True)
    log_prob = Components(*(part.float() for part in prior)).log_prob(latent_BM)
    (gradient,) = torch.autograd.grad(log_prob.sum(), latent_BM)
    assert log_prob.isfinite().all()
    assert gradient.isfinite().all()
    assert (gradient[0] < 0).all()
    assert (gradient[1] > 0).all()


def test_uniform_noise_chooses_components_by_their_weights() -> None:
    weights = torch.tensor([0.25, 0.0, 0.5, 0.25], dtype=torch.float64)
    places = torch.tensor([[0.0], [1.0], [2.0], [3.0]], dtype=torch.float64)
    prior = Components(places, torch.full((4, 1), -16.0), weights.log())
    last = torch.tensor(1.0, dtype=torch.float64).nextafter(torch.tensor(0.0).double()).item()
    uniform = torch.tensor([0.0, 0.249, 0.25, 0.5, 0.749, 0.75, last], dtype=torch.float64)
    drawn = prior.draw(torch.zeros(7, 1, dtype=torch.float64), uniform)
    assert drawn[:, 0].tolist() == [0.0, 0.0, 2.0, 2.0, 2.0, 3.0, 3.0]


@pytest.mark.parametrize("components", [3, 7, 10, 999])
def test_weights_whose_sum_rounds_below_one_leave_no_gap(components: int) -> None:
    """The largest float32 below 1 chooses the last component."""
    prior = Components(
        torch.arange(float(components))[:, None],
        torch.full((components, 1), -16.0),
        torch.zeros(components).log_softmax(0),
    )
    uniform = torch.tensor([1.0 - 2.0**-24])
    assert prior.draw(torch.zeros(1, 1), uniform).item() == components - 1


@pytest.mark.parametrize("components", [1, 4])
def test_draws_have_the_moments_of_the_mixture(components: int) -> None:
    prior = mixture(components, 3)
    generator = torch.Generator().manual_seed(0)
    count = 200_000
    noise = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    drawn = prior.draw(noise, torch.rand(count, generator=generator, dtype=torch.float64)).numpy()
    weight, mean = prior.log_weight_C.exp().numpy(), prior.mean_CM.numpy()
    exact = weight @ mean
    spread = (weight[:, None] * mean).T @ mean - np.outer(exact, exact)
    covariance = spread + np.diag(weight @ prior.log_variance_CM.exp().numpy())
    error = np.sqrt(np.diag(covariance) / count)
    assert np.abs(drawn.mean(0) - exact).max() < 4 * error.max()
    assert np.cov(drawn.T) == pytest.approx(covariance, abs=0.02 * covariance.max())
