import math

import pytest
import torch

from tune_vae.science.likelihoods.gaussian import Gaussian
from tune_vae.science.sigmas.shared import Shared

IMAGES = torch.full((2, 1, 3, 3), 0.5)
NOTHING = torch.empty(2, 0, 1, 3, 3)


@pytest.mark.parametrize("start", [0.1, 1.0, 5.0])
def test_sigma_starts_where_stated(start: float) -> None:
    """The soft bound at e^-6 adds less than 0.003 / start of it."""
    log_sigma = Shared(start=start).build((1, 3, 3))(IMAGES, IMAGES[:, None], NOTHING, Gaussian())
    assert log_sigma.exp().item() == pytest.approx(start, rel=0.003 / start)


def test_gradient_descent_finds_the_sigma_that_fits_the_data() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(50, 1, 4, 4, generator=generator, dtype=torch.float64)
    params = torch.full((50, 1, 1, 4, 4), 0.5, dtype=torch.float64)
    likelihood, scale = Gaussian(link="identity"), Shared().build((1, 4, 4)).double()
    for _ in range(300):
        log_sigma = scale(x, params, params[:, :0], likelihood)
        cost = -likelihood.log_prob(x, params, log_sigma).mean()
        (gradient,) = torch.autograd.grad(cost, list(scale.parameters()))
        with torch.no_grad():
            scale.free_log_sigma -= 0.3 * gradient
    assert log_sigma.exp().item() ** 2 == pytest.approx((x - 0.5).square().mean().item(), 1e-6)


def test_constant_images_cannot_drive_sigma_below_its_bound() -> None:
    scale = Shared(start=1e-30).build((1, 3, 3))
    log_sigma = scale(IMAGES, IMAGES[:, None], NOTHING, Gaussian(link="identity"))
    assert log_sigma.item() >= -6


def test_below_the_bound_there_is_still_a_gradient() -> None:
    scale = Shared(start=math.exp(-12.0)).build((1, 3, 3))
    log_sigma = scale(IMAGES, IMAGES[:, None], NOTHING, Gaussian())
    (gradient,) = torch.autograd.grad(log_sigma, list(scale.parameters()))
    assert gradient.item() == pytest.approx(1 / (1 + math.exp(6.0)), rel=1e-4)


def test_different_starts_fit_into_one_pack() -> None:
    assert Shared(start=0.1).pack_key() == Shared(start=0.2).pack_key()


@pytest.mark.parametrize("start", [0.0, -1.0, math.inf, math.nan])
def test_start_without_a_finite_logarithm_is_refused(start: float) -> None:
    with pytest.raises(ValueError, match=f"start must be positive and finite, got {start}"):
        Shared(start=start)
