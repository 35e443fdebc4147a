"""One forward pass, and what a trained model is used for."""

import pytest
import torch
from torch import Tensor

from tests.discovery import component_classes
from tune_vae.science.likelihoods.bernoulli import Bernoulli
from tune_vae.science.likelihoods.gaussian import Gaussian
from tune_vae.science.networks.mlp import Mlp
from tune_vae.science.sigmas.fixed import Fixed
from tune_vae.science.sigmas.optimal import Optimal
from tune_vae.science.vae import VAE

SHAPE = (2, 3, 5)


def build(
    likelihood: object = Gaussian(),
    sigma: object = Fixed(),
    seed: int = 0,
) -> VAE:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return VAE(
            network=Mlp(hidden=(7,)),
            likelihood=likelihood,
            sigma=sigma,
            shape=SHAPE,
            latent_dim=4,
        )


def images(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(6, *SHAPE, generator=generator), torch.randn(6, 4, generator=generator)


def test_a_scale_needs_a_sigma_mode() -> None:
    with pytest.raises(ValueError, match="Gaussian has a scale, so it needs a sigma mode"):
        build(Gaussian(), sigma=None)


def test_without_a_scale_the_sigma_mode_is_ignored() -> None:
    x, noise = images()
    with_one = build(Bernoulli(), sigma=Optimal())(x, noise)
    without = build(Bernoulli(), sigma=None)(x, noise)
    assert torch.equal(with_one.distortion_B, without.distortion_B)


@pytest.mark.parametrize(
    "likelihood", [make() for make in component_classes("science.likelihoods")], ids=repr
)
def test_distortion_is_summed_over_the_values_of_each_image(likelihood: object) -> None:
    x, noise = images()
    vae = build(likelihood)
    terms = vae(x, noise)
    assert terms.rate_BM.shape == (6, 4)
    assert terms.params.shape == (6, vae.likelihood.params_per_value, *SHAPE)
    one_by_one = [vae(x[i : i + 1], noise[i : i + 1]).distortion_B for i in range(6)]
    torch.testing.assert_close(terms.distortion_B, torch.cat(one_by_one))
    log_prob = vae.likelihood.log_prob(x, terms.params, terms.log_sigma)
    torch.testing.assert_close(-terms.distortion_B.sum(), log_prob.sum())


def test_latents_are_drawn_from_the_posterior() -> None:
    x, _ = images()
    vae = build().double()
    mean, log_variance = vae.encode(x.double())
    latents = torch.distributions.Normal(mean, (0.5 * log_variance).exp()).icdf(
        torch.full_like(mean, 0.975)
    )
    upper = torch.full_like(mean, 1.959963984540054)
    torch.testing.assert_close(vae(x.double(), upper).params, vae.decode(latents))


def test_reconstruction_is_the_expected_image_at_the_posterior_mean() -> None:
    x, noise = images()
    vae = build()
    expected = vae.likelihood.mean(vae(x, torch.zeros_like(noise)).params)
    reconstruction = vae.reconstruct(x)
    assert reconstruction.shape == x.shape
    assert not reconstruction.requires_grad
    torch.testing.assert_close(reconstruction, expected.detach())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_generated_images_follow_from_the_seed(dtype: torch.dtype, device: torch.device) -> None:
    vae = build().to(device, dtype)
    generated = vae.generate(10, seed=1)
    assert generated.shape == (10, *SHAPE)
    assert ((generated >= 0) & (generated <= 1)).all()
    assert torch.equal(generated, vae.generate(10, seed=1))
    assert not torch.equal(generated, vae.generate(10, seed=2))
