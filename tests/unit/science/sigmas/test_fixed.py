import math

import pytest
import torch

from tune_vae.science.likelihoods.gaussian import Gaussian
from tune_vae.science.sigmas.fixed import Fixed


@pytest.mark.parametrize("sigma", [1e-25, 0.1, 1.0, 30.0])
def test_sigma_is_what_was_stated_whatever_the_images(sigma: float) -> None:
    scale = Fixed(sigma=sigma).build((1, 3, 3))
    for x in (torch.zeros(2, 1, 3, 3), torch.rand(2, 1, 3, 3)):
        log_sigma = scale(x, x[:, None], x[:, None][:, :0], Gaussian())
        assert log_sigma.item() == pytest.approx(math.log(sigma), rel=1e-6)


def test_different_sigmas_fit_into_one_pack() -> None:
    assert Fixed(sigma=0.1).pack_key() == Fixed(sigma=0.2).pack_key()


@pytest.mark.parametrize("sigma", [0.0, -1.0, math.inf, math.nan])
def test_sigma_without_a_finite_logarithm_is_refused(sigma: float) -> None:
    with pytest.raises(ValueError, match=f"sigma must be positive and finite, got {sigma}"):
        Fixed(sigma=sigma)
