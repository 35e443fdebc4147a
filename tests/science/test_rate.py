"""The rate against sampling, integration and inequalities."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import Tensor

from tune_vae.science.elbo import rate_nats
from tune_vae.science.priors import Components

MIXTURE_WEIGHTS = (0.5, 0.2, 0.3)


def mixture(latents: int, seed: int = 0) -> Components:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(2, 3, latents, generator=generator, dtype=torch.float64)
    weights = torch.tensor(MIXTURE_WEIGHTS, dtype=torch.float64)
    return Components(1.5 * drawn[0], drawn[1], weights.log())


def density(components: Components, latent: np.ndarray) -> float:
    """Of one latent, from scipy's normal distribution."""
    means, scales = components.mean_CM.numpy(), (0.5 * components.log_variance_CM).exp().numpy()
    each = [
        math.prod(stats.norm.pdf(latent, mean, scale))
        for mean, scale in zip(means, scales, strict=True)
    ]
    return float(np.dot(MIXTURE_WEIGHTS, each))


def posterior(latents: int) -> tuple[Tensor, Tensor]:
    mean_BM = torch.tensor([[0.4, -1.1, 0.0, 2.0, 0.7]], dtype=torch.float64)[:, :latents]
    log_variance_BM = torch.tensor([[-0.9, 0.3, -2.0, 0.0, 0.5]], dtype=torch.float64)
    return mean_BM, log_variance_BM[:, :latents]


def sampled(components: Components, mean_BM: Tensor, log_variance_BM: Tensor) -> tuple[float, ...]:
    """Mean of the estimates of the rate, and its standard error."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(200_000, mean_BM.shape[1], generator=generator, dtype=torch.float64)
    latent_BM = mean_BM + (0.5 * log_variance_BM).exp() * noise
    rate = components.rate_nats(mean_BM, log_variance_BM, latent_BM).sum(1)
    return rate.mean().item(), rate.std().item() / len(rate) ** 0.5


@pytest.mark.parametrize(("prior_mean", "prior_log_variance"), [(0.0, 0.0), (-1.5, 1.2)])
def test_rate_is_the_mean_log_ratio_of_posterior_and_prior(
    prior_mean: float, prior_log_variance: float, device: torch.device
) -> None:
    generator = torch.Generator().manual_seed(0)
    mean_M = torch.tensor([0.0, 0.5, -2.0, 1.0], dtype=torch.float64, device=device)
    log_variance_M = torch.tensor([0.0, -1.0, 0.7, -5.0], dtype=torch.float64, device=device)
    noise = torch.randn(200_000, 4, generator=generator, dtype=torch.float64).to(device)
    posterior = torch.distributions.Normal(mean_M, (0.5 * log_variance_M).exp())
    prior = torch.distributions.Normal(prior_mean, math.exp(0.5 * prior_log_variance))
    sample = posterior.mean + posterior.stddev * noise
    ratio = posterior.log_prob(sample) - prior.log_prob(sample)
    error_M = ratio.std(0) / len(ratio) ** 0.5
    prior_M = torch.tensor([prior_mean, prior_log_variance], dtype=torch.float64, device=device)
    exact_M = rate_nats(mean_M, log_variance_M, *prior_M)
    assert ((ratio.mean(0) - exact_M).abs() <= 4 * error_M + 1e-12).all()


@pytest.mark.parametrize("latents", [1, 2])
def test_mean_of_the_estimates_is_the_integral_that_defines_the_rate(latents: int) -> None:
    components = mixture(latents)
    given = posterior(latents)
    mean_M, scale_M = given[0][0].numpy(), (0.5 * given[1][0]).exp().numpy()

    def integrand(*latent: float) -> float:
        q = math.prod(stats.norm.pdf(latent, mean_M, scale_M))
        return q * (math.log(q) - math.log(density(components, np.array(latent))))

    box = [(m - 8 * s, m + 8 * s) for m, s in zip(mean_M, scale_M, strict=True)]
    exact, _ = integrate.nquad(integrand, box, opts={"epsabs": 1e-4, "epsrel": 1e-4})
    got, error = sampled(components, *given)
    assert got == pytest.approx(exact, abs=4 * error + 1e-3)
    assert error < 0.003 < exact / 100


@pytest.mark.parametrize("seed", range(5))
def test_mean_of_the_estimates_keeps_to_its_bounds(seed: int) -> None:
    """0 from below; from above the rate to any component that is stated along with it."""
    components, given = mixture(5, seed), posterior(5)
    got, error = sampled(components, *given)
    each_C = rate_nats(*given, components.mean_CM, components.log_variance_CM).sum(1)
    assert -4 * error <= got <= (each_C - components.log_weight_C).min().item() + 4 * error
    weights_C = components.log_weight_C.exp()
    assert got <= (weights_C * each_C).sum().item() + 4 * error


def test_equal_components_are_one() -> None:
    one, given = mixture(5), posterior(5)
    same = Components(one.mean_CM[:1].expand(3, 5), one.log_variance_CM[:1].expand(3, 5), one[2])
    got, error = sampled(same, *given)
    exact = rate_nats(*given, one.mean_CM[:1], one.log_variance_CM[:1]).sum().item()
    assert got == pytest.approx(exact, abs=4 * error)
    assert error < exact / 100


def test_rate_of_data_drawn_from_the_prior_averages_to_what_a_latent_tells_of_its_component() -> (
    None
):
    r"""Posterior = component: the mean rate over c is the mutual information of c and z.

    With components far apart it is the entropy of the weights.
    """
    far = torch.tensor([[-300.0, 0.0], [0.0, 300.0], [300.0, -300.0]], dtype=torch.float64)
    weights_C = torch.tensor(MIXTURE_WEIGHTS, dtype=torch.float64)
    components = Components(far, mixture(2).log_variance_CM, weights_C.log())
    each = [
        sampled(components, far[c : c + 1], components.log_variance_CM[c : c + 1])[0]
        for c in range(3)
    ]
    entropy = -(weights_C * weights_C.log()).sum().item()
    assert np.dot(MIXTURE_WEIGHTS, each) == pytest.approx(entropy, rel=1e-12)
