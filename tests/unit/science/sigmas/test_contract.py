"""What every sigma mode guarantees, checked on every file of the family."""

import pytest
import torch
from torch import Tensor

from tests.discovery import component_classes, is_frozen
from tune_vae.science.likelihoods.gaussian import Gaussian
from tune_vae.science.sigmas import Scale, Sigma

SHAPE = (3, 4, 4)

every_sigma = pytest.mark.parametrize(
    "sigma", [make() for make in component_classes("science.sigmas")], ids=repr
)


def batch(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(6, *SHAPE, generator=generator)
    return x, torch.randn(6, 1, *SHAPE, generator=generator)


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
    one.train()(*batch(0), Gaussian())
    fresh = sigma.build(SHAPE)
    assert state(other) == state(fresh)


@every_sigma
def test_log_sigma_is_finite_and_fits_the_images(sigma: Sigma) -> None:
    scale = sigma.build(SHAPE)
    x, params = batch(0)
    for mode in (True, False):
        log_sigma = scale.train(mode)(x, params, Gaussian())
        assert log_sigma.isfinite().all()
        assert torch.broadcast_shapes(log_sigma.shape, x.shape) == x.shape


@every_sigma
def test_evaluation_changes_nothing_and_does_not_look_at_the_data(sigma: Sigma) -> None:
    scale = sigma.build(SHAPE)
    scale.train()(*batch(0), Gaussian())
    before = state(scale)
    x, params = batch(1)
    seen = scale.eval()(x, params, Gaussian())
    unseen = scale(torch.full_like(x, torch.nan), params, Gaussian())
    assert torch.equal(seen, unseen)
    assert state(scale) == before


@every_sigma
def test_what_is_learned_has_a_gradient_and_the_rest_has_none(sigma: Sigma) -> None:
    scale = sigma.build(SHAPE).train()
    x, params = batch(0)
    log_sigma = scale(x, params.requires_grad_(), Gaussian())
    learned = list(scale.parameters())
    assert log_sigma.requires_grad == bool(learned)
    for gradient in torch.autograd.grad(log_sigma.sum(), learned) if learned else []:
        assert gradient.ne(0).all()
