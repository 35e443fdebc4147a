"""What every prior guarantees, checked on every file of the family."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap

from tests.discovery import component_classes, is_frozen
from tune_vae.science.priors import Components, Prior, PriorModel

SHAPE, LATENTS = (2, 3, 4), 3

every_prior = pytest.mark.parametrize(
    "prior", [make() for make in component_classes("science.priors")], ids=repr
)


WEIGHT = torch.randn(
    math.prod(SHAPE),
    2 * LATENTS,
    generator=torch.Generator().manual_seed(0),
    dtype=torch.float64,
)


def encode(features_BCHW: Tensor) -> tuple[Tensor, Tensor]:
    """An encoder that tells examples apart."""
    mean_BM, log_variance_BM = (features_BCHW.flatten(1) @ WEIGHT).chunk(2, 1)
    return mean_BM, -log_variance_BM.sigmoid()


def built(prior: Prior, seed: int = 0, *, counts: bool = False) -> PriorModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return prior.build(SHAPE, LATENTS, counts=counts).double()


def noise(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(count, LATENTS, generator=generator, dtype=torch.float64)
    return normal, torch.rand(count, generator=generator, dtype=torch.float64)


def posterior(count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Means, log-variances and samples."""
    generator = torch.Generator().manual_seed(1)
    drawn = torch.randn(3, count, LATENTS, generator=generator, dtype=torch.float64)
    return drawn[0], drawn[1], drawn[0] + (0.5 * drawn[1]).exp() * drawn[2]


@every_prior
def test_prior_is_a_frozen_value(prior: Prior) -> None:
    assert is_frozen(type(prior))
    assert len({prior, type(prior)(**vars(prior))}) == 1
    assert prior.pack_key() == type(prior)(**vars(prior)).pack_key()
    assert hash(prior.pack_key()) == hash(type(prior)(**vars(prior)).pack_key())


@every_prior
@pytest.mark.parametrize("counts", [True, False])
def test_prior_is_a_mixture_over_the_latents(prior: Prior, counts: bool) -> None:
    mean_CM, log_variance_CM, log_weight_C = built(prior, counts=counts)(encode)
    assert mean_CM.shape == log_variance_CM.shape == (len(log_weight_C), LATENTS)
    assert mean_CM.isfinite().all()
    assert log_variance_CM.isfinite().all()
    assert log_weight_C.exp().sum().item() == pytest.approx(1.0, rel=1e-12)


@every_prior
def test_global_generator_decides_what_is_drawn_and_nothing_else_does(prior: Prior) -> None:
    def mixture(seed: int) -> tuple[list[float], ...]:
        return tuple(part.tolist() for part in built(prior, seed)(encode))

    assert mixture(0) == mixture(0)
    assert (mixture(0) != mixture(1)) == bool(list(built(prior).parameters()))


@every_prior
def test_whatever_is_learned_takes_part_in_the_rate(prior: Prior) -> None:
    model = built(prior)
    rate = model(encode).rate_nats(*posterior(20)).sum()
    learned = list(model.parameters())
    for gradient in torch.autograd.grad(rate, learned) if learned else []:
        assert gradient.isfinite().all()
        assert gradient.ne(0).any()


@every_prior
def test_density_integrates_to_one(prior: Prior) -> None:
    """Importance weights average to it."""
    components = built(prior)(encode)
    wide = 3.0
    normal, _ = noise(50_000)
    latent = components.mean_CM.mean(0) + wide * normal
    log_proposal = (-0.5 * normal.square() - 0.5 * math.log(2 * math.pi * wide**2)).sum(1)
    weight = (components.log_prob(latent) - log_proposal).exp()
    error = weight.std().item() / len(weight) ** 0.5
    assert weight.mean().item() == pytest.approx(1.0, abs=4 * error)
    assert error < 0.05


@every_prior
def test_draws_have_the_distribution_function_of_the_prior(prior: Prior) -> None:
    with torch.no_grad():
        components = built(prior)(encode)
        draws = components.draw(*noise(20_000))
    mean_CM, log_variance_CM, log_weight_C = (p.detach().numpy() for p in components)
    for m in range(LATENTS):

        def below(value: np.ndarray, m: int = m) -> np.ndarray:
            scale_C = np.exp(0.5 * log_variance_CM[:, m])
            return stats.norm.cdf(value[:, None], mean_CM[:, m], scale_C) @ np.exp(log_weight_C)

        assert stats.kstest(draws[:, m].numpy(), below).pvalue > 1e-3


@every_prior
def test_members_of_a_pack_do_not_mix(prior: Prior) -> None:
    """Rate, density and draws of stacked models equal those of each alone."""
    models = [built(prior, seed) for seed in range(3)]
    if list(models[0].parameters()):
        assert not torch.equal(*(model(encode).mean_CM for model in models[:2]))
    template, given, drawn = built(prior), posterior(5), noise(50)

    def everything(components: Components) -> tuple[Tensor, ...]:
        return (
            components.rate_nats(*given),
            components.log_prob(given[2]),
            components.draw(*drawn),
        )

    def of_one(state: dict[str, Tensor]) -> tuple[Tensor, ...]:
        return everything(functional_call(template, state, (encode,)))

    parameters, buffers = stack_module_state(models)
    together = vmap(of_one)(parameters | buffers)
    for k, model in enumerate(models):
        for ours, alone in zip(together, everything(model(encode)), strict=True):
            torch.testing.assert_close(ours[k], alone, rtol=1e-12, atol=1e-12)
