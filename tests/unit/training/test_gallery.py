"""Grids of pixels, and what models draw."""

import pytest
import torch

from tests.factories import member
from tune_vae.data import Splits, scale
from tune_vae.science.vae import VAE
from tune_vae.training.gallery import SIDE, STEPS, gallery, grid, principal_plane
from tune_vae.training.trainer import Trainer, build_vae, restored_vae


@pytest.fixture(scope="module")
def vae(few_digits: Splits) -> VAE:
    one = member(epochs=6)
    trainer = Trainer([one], few_digits)
    for _ in trainer:
        pass
    return restored_vae(one, few_digits.shape, trainer.state(0))


@pytest.fixture(scope="module")
def held_out(few_digits: Splits) -> torch.Tensor:
    return scale(few_digits.validation, few_digits.levels)


@pytest.mark.parametrize("channels", [1, 3])
def test_grid_puts_images_in_rows_with_white_lines_between(channels: int) -> None:
    images = torch.rand(6, channels, 4, 5, generator=torch.Generator().manual_seed(0))
    whole = grid(images, 3)
    assert whole.shape == (2 * 4 + 1, 3 * 5 + 2, channels)
    assert torch.equal(whole[5:9, 6:11], images[4].permute(1, 2, 0))
    assert (whole[4] == 1).all()
    assert (whole[:, 5] == 1).all()


def test_grid_of_other_channels_shows_the_first_and_holds_only_what_can_be_drawn() -> None:
    images = torch.tensor([torch.nan, 2.0, -1.0, 0.5]).expand(2, 1, 4, 4).repeat(1, 2, 1, 1)
    images[:, 1] = 0.25
    assert grid(images, 2)[:, :4].unique().tolist() == [0.0, 0.5, 1.0]


def test_reconstructions_stand_beside_their_images(vae: VAE, held_out: torch.Tensor) -> None:
    shown = gallery(vae, held_out).reconstructions
    assert shown.shape == (SIDE * 9 - 1, SIDE * 9 - 1, 1)
    assert torch.equal(shown[:8, :8, 0], held_out[0, 0])
    assert torch.equal(shown[9:17, 18:26, 0], held_out[4, 0])
    there = vae.reconstruct(held_out[4:5])[0, 0].clamp(0, 1)
    assert torch.allclose(shown[9:17, 27:35, 0], there, atol=1e-6)


def test_samples_are_those_that_the_model_generates(vae: VAE, held_out: torch.Tensor) -> None:
    shown = gallery(vae, held_out).samples
    assert torch.allclose(shown[:8, 9:17, 0], vae.generate(36)[1, 0].clamp(0, 1), atol=1e-6)


def test_traversal_moves_the_latents_with_the_highest_rate(
    vae: VAE, held_out: torch.Tensor
) -> None:
    found = gallery(vae, held_out)
    mean_nM, log_variance_nM = vae.encode(held_out)
    rate_M = 0.5 * (mean_nM**2 + log_variance_nM.exp() - log_variance_nM - 1).mean(0)
    assert found.moved == tuple(rate_M.argsort(descending=True).tolist())
    assert found.traversals.shape == (4 * 9 - 1, STEPS * 9 - 1, 1)
    first = found.moved[0]
    latent_M = mean_nM[0].clone()
    spread = (mean_nM[:, first].var(correction=0) + log_variance_nM[:, first].exp().mean()).sqrt()
    latent_M[first] = mean_nM[:, first].mean() - 3 * spread
    expected = vae.likelihood.mean(vae.decode(latent_M[None]))[0, 0].clamp(0, 1)
    assert torch.allclose(found.traversals[:8, :8, 0], expected, atol=1e-5)


def test_models_of_fewer_latents_than_rows_move_all_they_have(held_out: torch.Tensor) -> None:
    small = build_vae(member(latent_dim=1), (1, 8, 8)).eval()
    assert gallery(small, held_out).traversals.shape == (8, STEPS * 9 - 1, 1)
    plane, shares = principal_plane(small, held_out)
    assert shares == pytest.approx((1.0, 0.0))
    assert (plane[:, 1] == 0).all()


def test_principal_plane_keeps_the_largest_spread(vae: VAE, held_out: torch.Tensor) -> None:
    plane, shares = principal_plane(vae, held_out)
    spectrum = torch.linalg.eigvalsh(torch.cov(vae.encode(held_out)[0].double().T)).flip(0)
    assert plane.var(0).tolist() == pytest.approx(spectrum[:2].tolist())
    assert shares == pytest.approx((spectrum[:2] / spectrum.sum()).tolist())
