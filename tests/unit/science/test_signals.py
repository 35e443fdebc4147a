"""Signs of health against numpy, and where their values are known."""

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.factories import member
from tune_vae.science.signals import Signals, signals
from tune_vae.science.vae import VAE
from tune_vae.training.trainer import build_vae

SHAPE, LATENTS = (1, 4, 4), 4


def probes(count: int = 200) -> tuple[Tensor, Tensor, Tensor]:
    """Examples, noise and the constant image of least error."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(count, *SHAPE, generator=generator)
    return x, torch.randn(count, LATENTS, generator=generator), x.mean(0)


def model() -> VAE:
    return build_vae(member(latent_dim=LATENTS, init_scale=3.0), SHAPE).eval()


@torch.no_grad()
def of(vae: VAE) -> Signals:
    return signals(vae, *probes())


@torch.no_grad()
def test_numbers_agree_with_numpy() -> None:
    (x, noise, _), vae = probes(), model()
    mean, log_variance = (part.numpy() for part in vae.encode(x))
    latent = mean + np.exp(log_variance / 2) * noise.numpy()

    def image(z: np.ndarray) -> np.ndarray:
        return vae.likelihood.mean(vae.decode(torch.from_numpy(z))).numpy()

    found, seen = of(vae), x.numpy()
    spread = ((seen - seen.mean(0)) ** 2).sum()
    error = ((seen - image(latent)) ** 2).sum()
    change = ((image(latent) - image(np.roll(latent, 1, axis=0))) ** 2).sum()
    assert found.explained_variance.item() == pytest.approx(1 - error / spread, rel=1e-4)
    assert found.decoder_sensitivity.item() == pytest.approx(change / (2 * spread), rel=1e-4)
    assert found.mean_variance.item() == pytest.approx(mean.var(0).max(), rel=1e-4)
    assert found.at_bound.item() == 0


@torch.no_grad()
def test_model_that_ignores_its_input_shows_no_sign_of_life() -> None:
    vae = model()
    for parameter in vae.parameters():
        parameter.zero_()
    found = of(vae)
    assert found.decoder_sensitivity == 0
    assert found.mean_variance == 0
    assert found.mutual_information_nats.abs() < 1e-12
    # Its image is 1/2 everywhere, which is the mean of uniform values but for chance.
    assert -0.02 < found.explained_variance < 0


@torch.no_grad()
@pytest.mark.parametrize(("low", "high"), [(-1e4, 1e4), (1e4, -1e4)])
def test_log_variances_at_their_bound_are_counted_on_both_sides(low: float, high: float) -> None:
    vae = model()
    last = vae.encoder[-1]
    last.bias[LATENTS : LATENTS + 2] = torch.tensor([low, high])
    assert of(vae).at_bound == 0.5


def test_signals_can_be_differentiated() -> None:
    vae = model()
    found = signals(vae, *probes(8))
    grads = torch.autograd.grad(found.explained_variance, list(vae.parameters()))
    assert all(grad.isfinite().all() for grad in grads)
