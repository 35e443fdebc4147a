"""What every sigma mode guarantees, checked with every likelihood that has a scale.

Shapes: K model, B batch, P parameters per value, S the mode's own, C H W image.
"""

import math
from collections.abc import Iterator
from dataclasses import fields
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from tests.discovery import component_classes, is_frozen
from tune_vae.science.likelihoods import Domain, Likelihood
from tune_vae.science.likelihoods.gaussian import Gaussian
from tune_vae.science.sigmas import Scale, Sigma
from tune_vae.science.sigmas.optimal import Optimal

SHAPE = (3, 4, 4)
SIGMAS = [make() for make in component_classes("science.sigmas")]
SIGMAS += [Optimal(estimator="running")]
LIKELIHOODS = [make() for make in component_classes("science.likelihoods") if make.has_scale]
LINKED = [
    type(one)(link="identity")
    for one in LIKELIHOODS
    if "link" in {field.name for field in fields(one)}
]


def pairs(likelihoods: list[Likelihood]) -> list[tuple[Sigma, Likelihood]]:
    return [
        (sigma, likelihood)
        for sigma in SIGMAS
        for likelihood in likelihoods
        if likelihood.has_optimal_scale or not sigma.needs_optimal_scale
    ]


every_sigma = pytest.mark.parametrize("sigma", SIGMAS, ids=repr)
every_pair = pytest.mark.parametrize(("sigma", "likelihood"), pairs(LIKELIHOODS), ids=repr)


class Batch(NamedTuple):
    """What a scale is given."""

    x: Tensor
    params: Tensor
    free: Tensor

    @classmethod
    def of(cls, x: Tensor, raw: Tensor, free: Tensor, likelihood: Likelihood) -> "Batch":
        return cls(x, likelihood.conditioned(raw, x), free)


def data(likelihood: Likelihood, count: int, generator: torch.Generator) -> Tensor:
    if Domain.COUNTS in likelihood.domains:
        return torch.poisson(torch.full((count, *SHAPE), 3.0), generator=generator)
    return torch.randint(0, 256, (count, *SHAPE), generator=generator) / 255


def batch(sigma: Sigma, likelihood: Likelihood, seed: int, count: int = 6) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    x = data(likelihood, count, generator)
    raw = torch.randn(count, likelihood.params_per_value, *SHAPE, generator=generator)
    free = torch.randn(count, sigma.params_per_value, *SHAPE, generator=generator)
    return Batch.of(x, raw, free, likelihood)


def state(scale: Scale) -> dict[str, list[float]]:
    return {name: value.tolist() for name, value in scale.state_dict().items()}


@every_sigma
def test_sigma_mode_is_a_frozen_value(sigma: Sigma) -> None:
    assert is_frozen(type(sigma))
    assert len({sigma, type(sigma)(**vars(sigma))}) == 1
    assert sigma.pack_key() == type(sigma)(**vars(sigma)).pack_key()


@every_sigma
def test_every_build_is_fresh_and_the_same(sigma: Sigma) -> None:
    one, other = sigma.build(SHAPE), sigma.build(SHAPE)
    one.train()(*batch(sigma, Gaussian(), 0), Gaussian())
    fresh = sigma.build(SHAPE)
    assert state(other) == state(fresh)


@every_pair
def test_log_sigma_and_its_code_are_finite_and_fit_the_images(
    sigma: Sigma, likelihood: Likelihood
) -> None:
    scale = sigma.build(SHAPE)
    given = batch(sigma, likelihood, 0)
    for mode in (False, True, False):
        log_sigma = scale.train(mode)(*given, likelihood)
        assert log_sigma.isfinite().all()
        assert torch.broadcast_shapes(log_sigma.shape, given.x.shape) == given.x.shape
        code_B = scale.code_nats(log_sigma).expand(len(given.x))
        assert code_B.isfinite().all()
        assert (code_B >= 0).all()


@every_pair
def test_evaluation_changes_nothing_and_looks_at_the_data_only_if_it_pays(
    sigma: Sigma, likelihood: Likelihood
) -> None:
    scale = sigma.build(SHAPE)
    scale.train()(*batch(sigma, likelihood, 0), likelihood)
    before = state(scale)
    given = batch(sigma, likelihood, 1)
    seen = scale.eval()(*given, likelihood)
    unseen = scale(torch.full_like(given.x, torch.nan), *given[1:], likelihood)
    pays = bool((scale.code_nats(seen) > 0).all())
    assert torch.equal(seen, unseen) != pays
    assert state(scale) == before


@every_sigma
def test_what_the_images_decide_can_be_decoded_from_its_code(sigma: Sigma) -> None:
    """By Kraft's inequality: over all scales that some image may have, exp(-nats) sums to at
    most 1."""
    likelihood = Gaussian(link="identity")
    scale = sigma.build(SHAPE)
    scale.train()(*batch(sigma, likelihood, 0), likelihood)
    error = torch.linspace(-14, 14, 5000).exp()[:, None, None, None].expand(-1, *SHAPE)
    free = torch.zeros(len(error), sigma.params_per_value, *SHAPE)
    log_sigma = scale.eval()(error, torch.zeros(len(error), 1, *SHAPE), free, likelihood)
    code_B = scale.code_nats(log_sigma).expand(len(error))
    log_sigma = log_sigma.expand(len(error), *SHAPE).flatten(1)
    nats = {
        tuple(row): code for row, code in zip(log_sigma.tolist(), code_B.tolist(), strict=True)
    }
    assert sum(math.exp(-code) for code in nats.values()) <= 1 + 1e-5


@every_pair
def test_what_is_learned_has_a_gradient_and_the_rest_has_none(
    sigma: Sigma, likelihood: Likelihood
) -> None:
    scale = sigma.build(SHAPE).train()
    x, params, free = batch(sigma, likelihood, 0)
    params.requires_grad_()
    free.requires_grad_()
    log_sigma = scale(x, params, free, likelihood)
    learned = [*scale.parameters(), *([free] if free.numel() else [])]
    assert log_sigma.requires_grad == bool(learned)
    if learned:
        for gradient in torch.autograd.grad(log_sigma.sum(), learned, retain_graph=True):
            assert gradient.ne(0).all()
    log_prob = likelihood.log_prob(x, params, log_sigma)
    for gradient in torch.autograd.grad(log_prob.sum(), [params, *learned]):
        assert gradient.isfinite().all()


class Stated(nn.Module):
    """A scale and its code in one call."""

    def __init__(self, scale: Scale, likelihood: Likelihood) -> None:
        super().__init__()
        self.scale = scale
        self.likelihood = likelihood

    def forward(self, x: Tensor, params: Tensor, free: Tensor) -> tuple[Tensor, Tensor]:
        log_sigma = self.scale(x, params, free, self.likelihood)
        return log_sigma, self.scale.code_nats(log_sigma).expand(len(x))


def member(sigma: Sigma, likelihood: Likelihood, seed: int) -> Stated:
    """A model of a pack: the same graph, with its own numbers."""
    scale = sigma.build(SHAPE).train()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in scale.parameters():
            parameter += torch.randn(parameter.shape, generator=generator)
    scale(*batch(sigma, likelihood, 10 + seed), likelihood)
    return Stated(scale, likelihood)


@every_pair
def test_lifted_to_three_models_it_is_each_of_them_buffers_included(
    sigma: Sigma, likelihood: Likelihood
) -> None:
    singles = [member(sigma, likelihood, seed) for seed in range(3)]
    states = [single.state_dict() for single in singles]
    stacked = {name: torch.stack([one[name] for one in states]) for name in states[0]}
    template = member(sigma, likelihood, 99)

    def one(state: dict[str, Tensor], *given: Tensor) -> tuple[Tensor, Tensor]:
        stated: tuple[Tensor, Tensor] = functional_call(template, state, given)
        return stated

    for step, mode in enumerate((True, True, False)):
        template.train(mode)
        batches = [batch(sigma, likelihood, 20 + 3 * step + k) for k in range(3)]
        lifted = vmap(one)(stacked, *(torch.stack(part) for part in zip(*batches, strict=True)))
        for k, single in enumerate(singles):
            for got, expected in zip(lifted, single.train(mode)(*batches[k]), strict=True):
                torch.testing.assert_close(got[k], expected)
            for name, expected in single.state_dict().items():
                torch.testing.assert_close(stacked[name][k], expected)


@every_pair
def test_state_is_all_it_takes_to_go_on(sigma: Sigma, likelihood: Likelihood) -> None:
    scale = sigma.build(SHAPE).train()
    for seed in range(3):
        scale(*batch(sigma, likelihood, seed), likelihood)
    resumed = sigma.build(SHAPE).train()
    resumed.load_state_dict(scale.state_dict())
    for seed, mode in ((3, True), (4, True), (5, False)):
        given = batch(sigma, likelihood, seed)
        one, other = (each.train(mode)(*given, likelihood) for each in (scale, resumed))
        assert torch.equal(one, other)
        assert torch.equal(scale.code_nats(one), resumed.code_nats(other))
    assert state(scale) == state(resumed)


def extremes(sigma: Sigma, likelihood: Likelihood) -> Iterator[tuple[str, Batch]]:
    """Batches that a broken data set, or an exploding decoder, may give."""
    own, free = likelihood.params_per_value, torch.zeros(4, sigma.params_per_value, *SHAPE)
    zero, one = torch.zeros(4, *SHAPE), torch.ones(4, *SHAPE)
    none, far = torch.zeros(4, own, *SHAPE), torch.full((4, own, *SHAPE), 80.0)
    usual = batch(sigma, likelihood, 0, count=4)
    yield "constant images", Batch.of(one, none, free, likelihood)
    yield "empty images", Batch.of(zero, none, free, likelihood)
    yield "one image", batch(sigma, likelihood, 0, count=1)
    yield "wrong and sure of it", Batch.of(zero, far, free, likelihood)
    yield "right and sure of it", Batch.of(one, far, free, likelihood)
    yield "a decoder that explodes", usual._replace(free=free + 1e4)
    yield "a decoder that implodes", usual._replace(free=free - 1e4)
    if likelihood in LINKED:
        yield "met exactly", Batch.of(usual.x, usual.x[:, None], free, likelihood)
        yield "met exactly by one", Batch.of(usual.x, zero[:, None], free, likelihood)
        yield "huge errors", Batch.of(usual.x, 1e6 * far, free, likelihood)


@pytest.mark.parametrize(("sigma", "likelihood"), pairs(LIKELIHOODS + LINKED), ids=repr)
def test_extreme_batches_stay_finite(sigma: Sigma, likelihood: Likelihood) -> None:
    for name, given in extremes(sigma, likelihood):
        scale = sigma.build(SHAPE)
        for mode in (True, False):
            given.params.requires_grad_()
            given.free.requires_grad_()
            log_sigma = scale.train(mode)(*given, likelihood)
            log_prob = likelihood.log_prob(given.x, given.params, log_sigma)
            wanted = [given.params, *scale.parameters()]
            wanted += [given.free] if given.free.numel() else []
            numbers = {
                "log sigma": log_sigma,
                "code": scale.code_nats(log_sigma),
                "log-probability": log_prob,
                **scale.state_dict(),
                **{
                    f"gradient {i}": gradient
                    for i, gradient in enumerate(torch.autograd.grad(log_prob.sum(), wanted))
                },
            }
            wrong = [number for number, value in numbers.items() if not value.isfinite().all()]
            assert not wrong, f"{name}, training {mode}"
