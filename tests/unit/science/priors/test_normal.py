import math

import pytest
import torch

from tune_vae.science.elbo import rate_nats
from tune_vae.science.priors.normal import Normal
from tune_vae.science.priors.standard import Standard


def test_normal_has_the_given_mean_and_scale() -> None:
    components = Normal(mean=-1.5, scale=3.0).build((1, 2, 2), 4).double()(lambda x: (x, x))
    latent = torch.tensor([[0.0, -1.5, 3.0, 100.0]], dtype=torch.float64)
    exact = torch.distributions.Normal(-1.5, 3.0).log_prob(latent).sum(1)
    torch.testing.assert_close(components.log_prob(latent), exact, rtol=1e-6, atol=0)
    assert components.mean_CM.shape == (1, 4)


def test_standard_is_normal_with_mean_0_and_scale_1() -> None:
    standard, normal = (p.build((1, 2, 2), 4)(lambda x: (x, x)) for p in (Standard(), Normal()))
    assert all(torch.equal(one, other) for one, other in zip(standard, normal, strict=True))
    mean_BM, log_variance_BM = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0))
    zero = torch.zeros(())
    rate = standard.rate_nats(mean_BM, log_variance_BM, mean_BM)
    assert torch.equal(rate, rate_nats(mean_BM, log_variance_BM, zero, zero))


def test_normals_of_any_place_and_width_share_a_pack() -> None:
    keys = {p.pack_key() for p in (Standard(), Normal(), Normal(mean=3.0), Normal(scale=0.1))}
    assert len(keys) == 1


@pytest.mark.parametrize("scale", [0.0, -1.0, math.inf, math.nan])
def test_scale_that_is_no_scale_is_refused(scale: float) -> None:
    with pytest.raises(ValueError, match=f"scale must be positive and finite, got {scale}"):
        Normal(scale=scale)


@pytest.mark.parametrize("mean", [math.inf, math.nan])
def test_mean_that_is_nowhere_is_refused(mean: float) -> None:
    with pytest.raises(ValueError, match=f"mean must be finite, got {mean}"):
        Normal(mean=mean)
