"""What the weight of the rate means, whatever the size of image, latent and batch."""

import math

import pytest
import torch
from torch import Tensor, nn

from tune_vae.science.likelihoods.gaussian import Gaussian
from tune_vae.science.networks.mlp import Mlp
from tune_vae.science.sigmas.fixed import Fixed
from tune_vae.science.units import beta_from_norm
from tune_vae.science.vae import VAE

SHAPE, LATENTS, BETA_NORM = (1, 4, 4), 3, 0.2


def build(
    *, shape: tuple[int, int, int] = SHAPE, latents: int = LATENTS, sigma: float = 0.5
) -> VAE:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return VAE(
            network=Mlp(hidden=()),
            likelihood=Gaussian(),
            sigma=Fixed(sigma=sigma),
            shape=shape,
            latent_dim=latents,
        ).double()


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(6, *SHAPE, generator=generator, dtype=torch.float64)
    return x, torch.randn(6, LATENTS, generator=generator, dtype=torch.float64)


def loss(vae: VAE, x: Tensor, noise: Tensor, beta: float) -> Tensor:
    terms = vae(x, noise)
    return terms.distortion_B.mean() + beta * terms.rate_BM.sum(1).mean()


def loss_per_value(vae: VAE, x: Tensor, noise: Tensor) -> float:
    """The training loss at a given normalised beta, in units that do not depend on sizes."""
    values = math.prod(vae.shape)
    beta = beta_from_norm(BETA_NORM, values=values, latents=vae.latent_dim)
    return loss(vae, x, noise, beta).item() / values


def set_weights(linear: nn.Linear, weight: Tensor, bias: Tensor) -> None:
    with torch.no_grad():
        linear.weight.copy_(weight)
        linear.bias.copy_(bias)


def test_showing_every_value_twice_leaves_the_balance() -> None:
    """The same model of a doubled image: the encoder reads one half, the decoder paints both."""
    (x, noise), small, large = batch(), build(), build(shape=(1, 8, 4))
    encoder, decoder = small.encoder[1], small.decoder[0]
    half = torch.cat([encoder.weight, torch.zeros_like(encoder.weight)], dim=1)
    set_weights(large.encoder[1], half, encoder.bias)
    set_weights(large.decoder[0], decoder.weight.repeat(2, 1), decoder.bias.repeat(2))
    doubled = torch.cat([x, x], dim=2)
    assert loss_per_value(large, doubled, noise) == pytest.approx(loss_per_value(small, x, noise))


def test_saying_everything_twice_leaves_the_balance() -> None:
    """The same model with each latent sent twice: the decoder listens to one of the copies."""
    (x, noise), small, large = batch(), build(), build(latents=2 * LATENTS)
    encoder, decoder = small.encoder[1], small.decoder[0]
    mean, log_variance = encoder.weight.chunk(2)
    mean_bias, log_variance_bias = encoder.bias.chunk(2)
    set_weights(
        large.encoder[1],
        torch.cat([mean, mean, log_variance, log_variance]),
        torch.cat([mean_bias, mean_bias, log_variance_bias, log_variance_bias]),
    )
    deaf = torch.cat([decoder.weight, torch.zeros_like(decoder.weight)], dim=1)
    set_weights(large.decoder[0], deaf, decoder.bias)
    twice = noise.repeat(1, 2)
    assert loss_per_value(large, x, twice) == pytest.approx(loss_per_value(small, x, noise))


def test_size_of_the_batch_leaves_the_balance() -> None:
    (x, noise), vae = batch(), build()
    assert loss_per_value(vae, x.repeat(5, 1, 1, 1), noise.repeat(5, 1)) == pytest.approx(
        loss_per_value(vae, x, noise)
    )


@pytest.mark.parametrize("sigma", [0.05, 0.3, 2.0])
def test_fixed_sigma_and_beta_are_one_knob(sigma: float) -> None:
    """Scale sigma at beta 1 pulls on the weights as unit variance at beta = sigma², / sigma²."""
    x, noise = batch()

    def gradient(vae: VAE, beta: float) -> Tensor:
        parts = torch.autograd.grad(loss(vae, x, noise, beta), list(vae.parameters()))
        return torch.cat([part.flatten() for part in parts])

    vae = build(sigma=sigma)
    # The model keeps log sigma, rounded to float32.
    variance = (2 * vae.scale.log_sigma).exp().item()
    scaled = gradient(vae, 1.0)
    unit = gradient(build(sigma=1.0), variance)
    torch.testing.assert_close(unit, variance * scaled, rtol=1e-9, atol=1e-12)
