"""Scores of a batch: what each number is, and that it is an image's own."""

import math

import pytest
import torch
from torch import Tensor

from tests.discovery import component_classes
from tune_vae.data import Splits, scale
from tune_vae.science.evaluation import Scores, calibrated_log_sigma, score
from tune_vae.science.likelihoods import Likelihood, Measure
from tune_vae.science.likelihoods.bernoulli import Bernoulli
from tune_vae.science.likelihoods.continuous_bernoulli import ContinuousBernoulli
from tune_vae.science.likelihoods.gaussian import Gaussian
from tune_vae.science.networks.mlp import Mlp
from tune_vae.science.sigmas import Sigma
from tune_vae.science.sigmas.fixed import Fixed
from tune_vae.science.sigmas.optimal import Optimal
from tune_vae.science.vae import VAE

LIKELIHOODS = [make() for make in component_classes("science.likelihoods")]
EDGES = 0.25
"""Share of black and white values in the images of `even_levels`, of 5 levels."""


def build(likelihood: Likelihood, sigma: Sigma | None = None) -> VAE:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return VAE(
            network=Mlp(hidden=(16,)),
            likelihood=likelihood,
            sigma=sigma or Fixed(sigma=0.2),
            shape=(1, 8, 8),
            latent_dim=4,
        ).eval()


def silence(vae: VAE) -> VAE:
    """A posterior that is the prior, and a decoder that gives 0 whatever the latent."""
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter.zero_()
    return vae


def batch(digits: Splits, count: int = 20) -> tuple[Tensor, Tensor]:
    noise = torch.randn(count, 4, generator=torch.Generator().manual_seed(0))
    return scale(digits.train[:count], digits.levels), noise


@torch.no_grad()
def scores(vae: VAE, x: Tensor, noise: Tensor, levels: int = 17) -> Scores:
    return score(vae, x, noise, torch.tensor(-1.0), levels=levels)


@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=repr)
def test_scores_are_those_of_each_image_alone(digits: Splits, likelihood: Likelihood) -> None:
    vae, (x, noise) = build(likelihood), batch(digits)
    together = scores(vae, x, noise)
    alone = [scores(vae, x[i : i + 1], noise[i : i + 1]) for i in range(len(x))]
    for name in Scores._fields:
        joined = torch.cat([getattr(one, name) for one in alone])
        torch.testing.assert_close(getattr(together, name), joined, equal_nan=True)


@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=repr)
def test_mass_is_missing_only_where_the_likelihood_is_improper(
    digits: Splits, likelihood: Likelihood
) -> None:
    got = scores(build(likelihood), *batch(digits))
    assert got.calibrated_nats_B.isfinite().all()
    assert (got.calibrated_nats_B > 0).all()
    if likelihood.measure(17) is Measure.IMPROPER:
        assert got.mass_nats_B.isnan().all()
    else:
        assert (got.mass_nats_B > 0).all()


def test_squared_error_is_that_of_the_decoder_mean(digits: Splits) -> None:
    vae, (x, noise) = build(Gaussian()), batch(digits)
    mean = vae.likelihood.mean(vae(x, noise).params)
    expected = torch.nn.functional.mse_loss(mean, x)
    torch.testing.assert_close(scores(vae, x, noise).squared_error_B.mean(), expected)


def test_gaussian_with_the_calibrated_scale_scores_the_same_twice(digits: Splits) -> None:
    vae = build(Gaussian(), Fixed(sigma=math.exp(-1.0)))
    got = scores(vae, *batch(digits))
    torch.testing.assert_close(got.mass_nats_B, got.calibrated_nats_B, rtol=1e-6, atol=0)


def test_uniform_decoder_costs_a_bit_per_halving_of_the_levels(digits: Splits) -> None:
    """A flat density gives an inner bin 1/16 and each of the two half bins at the ends 1/32."""
    x, noise = batch(digits)
    got = scores(silence(build(ContinuousBernoulli())), x, noise)
    ends = ((x == 0) | (x == 1)).flatten(1).sum(1)
    bits = 64 * 4 + ends
    torch.testing.assert_close(got.mass_nats_B, bits.double() * math.log(2))
    assert not got.rate_BM.any()
    assert not got.distortion_B.any()


def test_fair_coin_costs_one_bit_per_binary_value(digits: Splits) -> None:
    x, noise = batch(digits)
    got = scores(silence(build(Bernoulli())), x.round(), noise, levels=2)
    torch.testing.assert_close(
        got.mass_nats_B, torch.full((20,), 64 * math.log(2), dtype=torch.float64)
    )


def test_wide_calibrated_gaussian_costs_half_a_bit_per_binary_value(digits: Splits) -> None:
    """Its bins meet at 1/2, where the silent decoder's mean lies: one bit, whatever sigma."""
    x, noise = batch(digits)
    vae = silence(build(Gaussian()))
    for log_sigma in (-5.0, 0.0, 5.0):
        got = score(vae, x.round(), noise, torch.tensor(log_sigma), levels=2)
        torch.testing.assert_close(
            got.calibrated_nats_B, torch.full((20,), 64 * math.log(2), dtype=torch.float64)
        )


def test_scoring_fits_nothing_to_the_scored_images(digits: Splits) -> None:
    """Half a batch scores the same beside other images, so no scale was fitted to it."""
    vae, (x, noise) = build(Gaussian(), Optimal()), batch(digits)
    vae.train()(x, noise)
    vae.eval()
    before = {name: value.clone() for name, value in vae.named_buffers()}
    half = scores(vae, x[:10], noise[:10]).mass_nats_B
    whole = scores(vae, torch.cat([x[:10], 1 - x[10:]]), noise).mass_nats_B
    torch.testing.assert_close(half, whole[:10])
    for name, value in vae.named_buffers():
        assert torch.equal(value, before[name])


def test_calibrated_scale_looks_at_evenly_spaced_values_of_a_large_sample(
    digits: Splits,
) -> None:
    """With every third value of 300 images the fit moves by its sampling error, 1 percent."""
    vae, (x, noise) = build(Gaussian()), batch(digits, 300)
    with torch.no_grad():
        all_of_them = [
            calibrated_log_sigma(vae, x[i::3], noise[i::3], levels=17).item() for i in range(3)
        ]
        thinned = calibrated_log_sigma(vae, x, noise, levels=17).item()
    assert thinned == pytest.approx(sum(all_of_them) / 3, abs=0.02)
