import math

import pytest
import torch
from torch.func import functional_call, vmap

from tune_vae.science.likelihoods.gaussian import Gaussian
from tune_vae.science.networks.mlp import Mlp
from tune_vae.science.sigmas.per_pixel import PerPixel
from tune_vae.science.vae import VAE

SHAPE = (3, 4, 4)
IMAGES = torch.full((2, *SHAPE), 0.5)
PARAMS = IMAGES[:, None]


@pytest.mark.parametrize("start", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("given", [-1.0, 0.0, 0.5])
def test_decoder_multiplies_the_start(start: float, given: float) -> None:
    """But for the soft bounds, which move a sigma of 0.1 by 2.5 %."""
    free = torch.full((2, 1, *SHAPE), given)
    log_sigma = PerPixel(start=start).build(SHAPE)(IMAGES, PARAMS, free, Gaussian())
    expected = torch.full((2, *SHAPE), start * math.exp(given))
    torch.testing.assert_close(log_sigma.exp(), expected, rtol=0.025, atol=0)


@pytest.mark.parametrize("start", [0.1, 1.0])
def test_untrained_decoder_is_near_the_start(start: float) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vae = VAE(
            network=Mlp(hidden=(32,)),
            likelihood=Gaussian(),
            sigma=PerPixel(start=start),
            shape=SHAPE,
            latent_dim=4,
        )
    generator = torch.Generator().manual_seed(0)
    terms = vae(torch.rand(20, *SHAPE, generator=generator), torch.zeros(20, 4))
    assert terms.params.shape == (20, 1, *SHAPE)
    assert terms.log_sigma.shape == (20, *SHAPE)
    away = terms.log_sigma - math.log(start)
    assert 0 < away.abs().mean() < 0.25


def test_gradient_descent_finds_the_sigma_of_each_pixel() -> None:
    """Many looks at two images with noise of another size at each pixel."""
    generator = torch.Generator().manual_seed(0)
    spread = torch.rand(2, *SHAPE, generator=generator, dtype=torch.float64) + 0.1
    noise = torch.randn(100, 2, *SHAPE, generator=generator, dtype=torch.float64)
    x = spread * noise
    free = torch.zeros(2, 1, *SHAPE, dtype=torch.float64, requires_grad=True)
    likelihood, scale = Gaussian(link="identity"), PerPixel(start=0.5).build(SHAPE).double()
    params = torch.zeros(100, 1, 2, *SHAPE, dtype=torch.float64)
    for _ in range(200):
        log_sigma = scale(x, params, free, likelihood)
        cost = -likelihood.log_prob(x, params, log_sigma).mean(0).sum()
        (gradient,) = torch.autograd.grad(cost, free)
        free = (free - 0.2 * gradient).detach().requires_grad_()
    torch.testing.assert_close((2 * log_sigma).exp(), x.square().mean(0), rtol=1e-6, atol=0)


@pytest.mark.parametrize(("given", "bound"), [(-1e4, -6.0), (1e4, 6.0)])
def test_no_decoder_drives_sigma_beyond_a_bound(given: float, bound: float) -> None:
    free = torch.full((2, 1, *SHAPE), given)
    log_sigma = PerPixel().build(SHAPE)(IMAGES, PARAMS, free, Gaussian())
    torch.testing.assert_close(log_sigma, torch.full((2, *SHAPE), bound), rtol=0, atol=1e-4)


def test_members_of_a_pack_may_start_at_different_sigmas() -> None:
    assert PerPixel(start=0.1).pack_key() == PerPixel(start=0.2).pack_key()
    starts = [PerPixel(start=start).build(SHAPE) for start in (0.1, 0.5)]
    state = {"log_start": torch.stack([scale.log_start for scale in starts])}
    free = torch.zeros(2, 1, *SHAPE)
    log_sigma_KBCHW = vmap(
        lambda one: functional_call(starts[0], one, (IMAGES, PARAMS, free, Gaussian()))
    )(state)
    for k, start in enumerate((0.1, 0.5)):
        assert log_sigma_KBCHW[k].exp().mean().item() == pytest.approx(start, rel=0.03)


@pytest.mark.parametrize("start", [0.0, -1.0, math.inf, math.nan])
def test_start_without_a_finite_logarithm_is_refused(start: float) -> None:
    with pytest.raises(ValueError, match=f"start must be positive and finite, got {start}"):
        PerPixel(start=start)
