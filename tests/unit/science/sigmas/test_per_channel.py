import math

import pytest
import torch

from tune_vae.science.likelihoods.gaussian import Gaussian
from tune_vae.science.networks.mlp import Mlp
from tune_vae.science.sigmas.per_channel import PerChannel
from tune_vae.science.sigmas.shared import Shared
from tune_vae.science.vae import VAE

SHAPE = (3, 4, 4)
IMAGES = torch.full((2, *SHAPE), 0.5)
NOTHING = torch.empty(2, 0, *SHAPE)


@pytest.mark.parametrize("start", [0.1, 1.0, 5.0])
def test_every_channel_starts_where_stated(start: float) -> None:
    """The soft bound at e^-6 adds less than 0.003 / start of it."""
    log_sigma = PerChannel(start=start).build(SHAPE)(IMAGES, IMAGES[:, None], NOTHING, Gaussian())
    assert log_sigma.shape == (3, 1, 1)
    torch.testing.assert_close(
        log_sigma.exp(), torch.full((3, 1, 1), start), rtol=0.003 / start, atol=0
    )


def test_gradient_descent_finds_the_sigma_of_each_channel() -> None:
    generator = torch.Generator().manual_seed(0)
    spread = torch.tensor([0.02, 0.1, 0.5], dtype=torch.float64)[:, None, None]
    x = 0.5 + spread * torch.randn(50, *SHAPE, generator=generator, dtype=torch.float64)
    params = torch.full((50, 1, *SHAPE), 0.5, dtype=torch.float64)
    likelihood, scale = Gaussian(link="identity"), PerChannel(start=0.3).build(SHAPE).double()
    for _ in range(400):
        log_sigma = scale(x, params, params[:, :0], likelihood)
        cost = -likelihood.log_prob(x, params, log_sigma).mean()
        (gradient,) = torch.autograd.grad(cost, list(scale.parameters()))
        with torch.no_grad():
            scale.free_log_sigma -= 0.5 * gradient
    variance = (x - 0.5).square().mean((0, 2, 3))
    torch.testing.assert_close((2 * log_sigma).exp().flatten(), variance, rtol=1e-4, atol=0)


def test_one_channel_is_the_shared_scale() -> None:
    images = IMAGES[:, :1]
    one = PerChannel(start=0.2).build((1, 4, 4))(images, images[:, None], NOTHING, Gaussian())
    shared = Shared(start=0.2).build((1, 4, 4))(images, images[:, None], NOTHING, Gaussian())
    torch.testing.assert_close(one.flatten(), shared.flatten())


def test_constant_images_cannot_drive_sigma_below_its_bound() -> None:
    scale = PerChannel(start=1e-30).build(SHAPE)
    log_sigma = scale(IMAGES, IMAGES[:, None], NOTHING, Gaussian(link="identity"))
    assert (log_sigma >= -6).all()


def test_a_channel_with_a_wider_scale_has_its_own_distortion() -> None:
    vae = VAE(
        network=Mlp(hidden=(4,)),
        likelihood=Gaussian(),
        sigma=PerChannel(),
        shape=SHAPE,
        latent_dim=2,
    )
    with torch.no_grad():
        vae.scale.free_log_sigma.copy_(torch.tensor([-1.0, 0.0, 1.0])[:, None, None])
    terms = vae(IMAGES, torch.zeros(2, 2))
    each = [
        vae.likelihood.log_prob(
            IMAGES[:, c], terms.params[:, :, c], terms.log_sigma[c].squeeze()
        ).flatten(1)
        for c in range(3)
    ]
    torch.testing.assert_close(-terms.distortion_B, torch.cat(each, dim=1).sum(1))


def test_different_starts_fit_into_one_pack() -> None:
    assert PerChannel(start=0.1).pack_key() == PerChannel(start=0.2).pack_key()


@pytest.mark.parametrize("start", [0.0, -1.0, math.inf, math.nan])
def test_start_without_a_finite_logarithm_is_refused(start: float) -> None:
    with pytest.raises(ValueError, match=f"start must be positive and finite, got {start}"):
        PerChannel(start=start)
