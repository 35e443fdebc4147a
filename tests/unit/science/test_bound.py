"""The importance-weighted bound, on models whose evidence is known or can be integrated.

Shapes: S posterior samples, B batch, N values, M latent.
"""

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap

from tests.science.test_linear_gaussian import (
    LATENTS,
    SHAPE,
    SIGMA,
    build,
    elbo,
    images,
    log_evidence,
)
from tune_vae.science import bound as module
from tune_vae.science.bound import Bound, importance_weighted
from tune_vae.science.evaluation import score
from tune_vae.science.information import Estimate
from tune_vae.science.likelihoods.bernoulli import Bernoulli
from tune_vae.science.likelihoods.categorical import Categorical
from tune_vae.science.likelihoods.gaussian import Gaussian
from tune_vae.science.networks.mlp import Mlp
from tune_vae.science.priors.normal import Normal
from tune_vae.science.sigmas.per_image import PerImage
from tune_vae.science.units import bits_per_dim
from tune_vae.science.vae import LOG_VARIANCE_BOUND, VAE


def normal(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@torch.no_grad()
def bounds(vae: VAE, x: Tensor, samples: int, repetitions: int, seed: int = 0) -> Tensor:
    """Repeated with fresh noise, `[repetitions, B]`."""
    noise = normal(samples, repetitions * len(x), vae.latent_dim, seed=seed)
    got = importance_weighted(vae, x.repeat(repetitions, 1, 1, 1), noise, levels=256)
    return got.log_prob_B.view(repetitions, len(x))


@torch.no_grad()
def with_exact_posterior(vae: VAE) -> VAE:
    """The same linear model with orthogonal weights, and the posterior that it implies."""
    encoder, decoder = vae.encoder[1], vae.decoder[0]
    weight_NM = torch.linalg.qr(decoder.weight).Q * torch.tensor([0.3, 1.0, 2.0]).double()
    decoder.weight.copy_(weight_NM)
    variance_M = 1 / (1 + weight_NM.square().sum(0) / SIGMA**2)
    into_MN = variance_M[:, None] * weight_NM.T / SIGMA**2
    log_variance_M = LOG_VARIANCE_BOUND * (variance_M.log() / LOG_VARIANCE_BOUND).atanh()
    encoder.weight.copy_(torch.cat([into_MN, torch.zeros_like(into_MN)]))
    encoder.bias.copy_(torch.cat([-into_MN @ decoder.bias, log_variance_M]))
    return vae


@pytest.mark.parametrize("samples", [1, 3])
def test_with_the_exact_posterior_every_sample_gives_the_evidence(samples: int) -> None:
    vae, x = with_exact_posterior(build(0)), images()
    expected = log_evidence(vae, x).expand(5, -1)
    torch.testing.assert_close(bounds(vae, x, samples, repetitions=5), expected)


@pytest.mark.parametrize("seed", range(3))
def test_one_sample_gives_the_elbo_in_expectation(seed: int) -> None:
    vae, x = build(seed, spread=0.3), images(seed)
    found = Estimate.of(bounds(vae, x, 1, repetitions=1500).mean(1))
    assert abs(found.value - elbo(vae, x).mean()) < 4 * found.error


@pytest.mark.parametrize("seed", range(2))
def test_bound_rises_with_the_samples_from_the_elbo_towards_the_evidence(seed: int) -> None:
    vae, x = build(seed, spread=0.3), images(seed)
    rungs = [Estimate.of(bounds(vae, x, k, repetitions=150).mean(1)) for k in (1, 4, 16, 64)]
    for lower, upper in itertools.pairwise(rungs):
        error = math.hypot(lower.error, upper.error)
        assert upper.value - lower.value > 2 * error
    evidence = log_evidence(vae, x).mean()
    assert elbo(vae, x).mean() < rungs[1].value < evidence
    assert rungs[-1].value < evidence + 3 * rungs[-1].error
    many = Estimate.of(bounds(vae, x, 2000, repetitions=10).mean(1))
    assert abs(many.value - evidence) < 0.02 + 3 * many.error


def test_mass_of_a_smooth_density_is_its_value_times_the_bin(device: torch.device) -> None:
    vae = build(0, spread=0.3).to(device)
    x = ((1 + (253 * images()).round()) / 255).to(device)
    with torch.no_grad():
        got = importance_weighted(vae, x, normal(20, 8, LATENTS).to(device), levels=256)
    width = math.prod(SHAPE) * math.log(1 / 255)
    assert got.log_mass_B.dtype == torch.float64
    # What a bin of 1/255 misses of the curvature at sigma 0.5, times 12 values.
    torch.testing.assert_close(got.log_mass_B, got.log_prob_B + width, rtol=0, atol=2e-4)


def test_one_sample_is_what_score_says_less_the_rate_that_was_drawn() -> None:
    """With a scale that must be stated, whose nats then count."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        vae = VAE(
            network=Mlp(hidden=(9,)),
            likelihood=Gaussian(),
            sigma=PerImage(),
            shape=SHAPE,
            latent_dim=LATENTS,
        ).double()
    vae.eval()
    x, noise = (255 * images()).round() / 255, normal(8, LATENTS)
    with torch.no_grad():
        got = importance_weighted(vae, x, noise[None], levels=256)
        scores = score(vae, x, noise, torch.tensor(-1.0), levels=256)
        mean_BM, log_variance_BM = vae.encode(x)
        posterior = torch.distributions.Normal(mean_BM, (0.5 * log_variance_BM).exp())
        latent_BM = posterior.mean + posterior.stddev * noise
        prior = torch.distributions.Normal(torch.zeros(()).double(), 1.0)
        rate_B = (posterior.log_prob(latent_BM) - prior.log_prob(latent_BM)).sum(1)
        assert (vae(x, noise).scale_nats_B > 1).all()
    torch.testing.assert_close(got.log_prob_B, -scores.distortion_B - rate_B)
    torch.testing.assert_close(got.log_mass_B, -scores.mass_nats_B - rate_B)


def binary(mean: float = 0.0, scale: float = 1.0) -> VAE:
    """Two pixels, one latent: small enough for an integral.

    The posterior is about as wide as the prior; samples of a narrow one would seldom see the
    tails, and their bound would be low.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        vae = VAE(
            network=Mlp(hidden=(5,)),
            likelihood=Bernoulli(),
            sigma=None,
            shape=(1, 1, 2),
            latent_dim=1,
            prior=Normal(mean=mean, scale=scale),
        ).double()
    with torch.no_grad():
        vae.encoder[-1].bias += torch.tensor([mean, 2 * math.log(scale)])
    return vae


@torch.no_grad()
def integrated(vae: VAE, x: Tensor, mean: float, scale: float) -> Tensor:
    """Log-evidence by the rectangle rule."""
    grid = torch.linspace(-10, 10, 2001, dtype=torch.float64)
    prior = torch.distributions.Normal(mean, scale).log_prob(mean + scale * grid)
    params = vae.decode((mean + scale * grid)[:, None])
    log_prob = [
        vae.likelihood.log_prob(one.expand(2001, 1, 1, 2), params, torch.zeros(())) for one in x
    ]
    per_point = torch.stack(log_prob).flatten(2).sum(2) + prior + math.log(scale * 0.01)
    return per_point.logsumexp(1)


@pytest.mark.parametrize(("mean", "scale"), [(0.0, 1.0), (1.5, 3.0)])
def test_bound_of_many_samples_is_the_integral_over_the_prior(mean: float, scale: float) -> None:
    vae = binary(mean, scale)
    x = torch.tensor(list(itertools.product([0.0, 1.0], repeat=2))).double().view(4, 1, 1, 2)
    truth = integrated(vae, x, mean, scale)
    assert truth.exp().sum().item() == pytest.approx(1.0, abs=1e-6)
    with torch.no_grad():
        got = importance_weighted(vae, x, normal(60_000, 4, 1), levels=2)
    torch.testing.assert_close(got.log_prob_B, truth, rtol=0, atol=0.02)
    torch.testing.assert_close(got.log_mass_B, got.log_prob_B)


def test_bits_of_a_decoder_that_knows_nothing_are_those_of_a_uniform_guess() -> None:
    vae = VAE(
        network=Mlp(hidden=(4,)),
        likelihood=Categorical(levels=17),
        sigma=None,
        shape=SHAPE,
        latent_dim=2,
    )
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter.zero_()
        x = (16 * images()).round().float() / 16
        got = importance_weighted(vae, x, normal(7, 8, 2).float(), levels=17)
    mean = Estimate.of(got.log_mass_B)
    bits = bits_per_dim(-mean.value.item(), values=math.prod(SHAPE))
    assert bits == pytest.approx(math.log2(17), rel=1e-6)
    assert mean.error < 1e-6


def test_an_improper_likelihood_has_no_mass() -> None:
    x = (16 * torch.rand(3, 1, 1, 2).double()).round() / 16
    with torch.no_grad():
        got = importance_weighted(binary(), x, normal(5, 3, 1), levels=17)
    assert got.log_mass_B.isnan().all()
    assert got.log_prob_B.isfinite().all()


@pytest.mark.parametrize("at_once", [1, 8, 20, 24, 10_000])
def test_bound_is_the_same_however_the_samples_are_divided(
    monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    vae, x, noise = build(0, spread=0.3), images(), normal(11, 8, LATENTS)
    with torch.no_grad():
        whole = importance_weighted(vae, x, noise, levels=256)
        monkeypatch.setattr(module, "AT_ONCE", at_once)
        divided = importance_weighted(vae, x, noise, levels=256)
    torch.testing.assert_close(divided, whole)


def test_each_example_has_its_own_bound() -> None:
    vae, x, noise = build(0, spread=0.3), images(), normal(9, 8, LATENTS)
    with torch.no_grad():
        together = importance_weighted(vae, x, noise, levels=256)
        alone = [
            importance_weighted(vae, x[i : i + 1], noise[:, i : i + 1], levels=256)
            for i in range(8)
        ]
    for name in Bound._fields:
        joined = torch.cat([getattr(one, name) for one in alone])
        torch.testing.assert_close(getattr(together, name), joined)


def test_bounds_of_many_models_are_those_of_each() -> None:
    vaes, x, noise = [build(seed, spread=0.3) for seed in range(3)], images(), normal(6, 8, 3)
    parameters, buffers = stack_module_state(vaes)

    class Asked(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.vae = build(9)

        def forward(self, x: Tensor, noise: Tensor) -> Bound:
            return importance_weighted(self.vae, x, noise, levels=256)

    asked = Asked()

    def one(parameters: dict[str, Tensor], buffers: dict[str, Tensor]) -> Bound:
        state = {f"vae.{name}": value for name, value in (parameters | buffers).items()}
        return functional_call(asked, state, (x, noise))

    together = vmap(one)(parameters, buffers)
    for k, vae in enumerate(vaes):
        expected = importance_weighted(vae, x, noise, levels=256)
        for name in Bound._fields:
            torch.testing.assert_close(getattr(together, name)[k], getattr(expected, name))
