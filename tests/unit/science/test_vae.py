"""One forward pass, and what a trained model is used for."""

import math

import pytest
import torch
from torch import Tensor

from tests.discovery import component_classes
from tune_vae.science.likelihoods.bernoulli import Bernoulli
from tune_vae.science.likelihoods.gaussian import Gaussian
from tune_vae.science.networks.mlp import Mlp
from tune_vae.science.priors.mixture import Mixture
from tune_vae.science.priors.normal import Normal
from tune_vae.science.priors.standard import Standard
from tune_vae.science.priors.vamp import Vamp
from tune_vae.science.sigmas.fixed import Fixed
from tune_vae.science.sigmas.optimal import Optimal
from tune_vae.science.vae import LOG_VARIANCE_BOUND, VAE

SHAPE = (2, 3, 5)


def build(
    likelihood: object = Gaussian(),
    sigma: object = Fixed(),
    seed: int = 0,
    prior: object = None,
) -> VAE:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return VAE(
            network=Mlp(hidden=(7,)),
            likelihood=likelihood,
            sigma=sigma,
            shape=SHAPE,
            latent_dim=4,
            prior=prior,
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


def saying(log_variance: float) -> VAE:
    """A model whose encoder says this log-variance of every image, before any bound."""
    vae = build().double()
    last = vae.encoder[-1]
    with torch.no_grad():
        last.weight[4:] = 0.0
        last.bias[4:] = log_variance
    return vae


@pytest.mark.parametrize("raw", [1e4, -1e4, 16.0, -16.0, 1e30, -1e30])
def test_log_variance_never_exceeds_its_bound_and_leaves_gradients_finite(raw: float) -> None:
    vae = saying(raw).float()
    x, noise = images()
    terms = vae(x, noise)
    assert LOG_VARIANCE_BOUND == 16.0
    assert (terms.log_variance_BM.abs() <= 16.0).all()
    assert (terms.log_variance_BM.sign() == math.copysign(1.0, raw)).all()
    loss = terms.rate_BM.sum() + terms.distortion_B.sum()
    assert loss.isfinite()
    for gradient in torch.autograd.grad(loss, list(vae.parameters())):
        assert gradient.isfinite().all()


@pytest.mark.parametrize("sigma", [1.0, 0.9, 0.5, 0.2, 1.5, 5.0])
def test_far_from_its_bound_the_log_variance_is_what_the_encoder_says(sigma: float) -> None:
    """To 2.2 % of a standard deviation of 0.2 or 5, and far less nearer to 1."""
    raw = 2 * math.log(sigma)
    _, log_variance_BM = saying(raw).encode(images()[0].double())
    got = (0.5 * log_variance_BM).exp()
    # tanh u = u - u³/3 + …
    assert got[0].tolist() == pytest.approx([sigma] * 4, rel=max(abs(raw / 8) ** 3, 1e-12))
    assert log_variance_BM[0].tolist() == pytest.approx([16 * math.tanh(raw / 16)] * 4, rel=1e-12)
    if sigma == 0.2:
        assert got[0].tolist() == pytest.approx([0.204] * 4, abs=5e-4)


def test_expected_latents_are_standard_normal_unless_told_otherwise() -> None:
    x, noise = images()
    plain, standard = build()(x, noise), build(prior=Standard())(x, noise)
    assert torch.equal(plain.rate_BM, standard.rate_BM)
    wide = build(prior=Normal(scale=3.0))(x, noise)
    assert torch.equal(wide.distortion_B, standard.distortion_B)
    assert not torch.equal(wide.rate_BM, standard.rate_BM)


@pytest.mark.parametrize(
    "prior", [Normal(mean=-2.0, scale=3.0), Mixture(components=5), Vamp(components=5)], ids=repr
)
def test_rate_of_a_batch_is_the_log_ratio_of_posterior_and_prior(prior: object) -> None:
    """At the very samples that were decoded; on average where there is a closed form."""
    vae = build(prior=prior).double()
    x = images()[0][:1].double().expand(20_000, *SHAPE)
    noise = torch.randn(20_000, 4, generator=torch.Generator().manual_seed(3)).double()
    with torch.no_grad():
        terms = vae(x, noise)
        expected = vae.expected()
    posterior = torch.distributions.Normal(terms.mean_BM, (0.5 * terms.log_variance_BM).exp())
    log_q = posterior.log_prob(terms.latent_BM).sum(1)
    ratio = log_q - expected.log_prob(terms.latent_BM)
    rate = terms.rate_BM.sum(1)
    if len(expected.log_weight_C) > 1:
        torch.testing.assert_close(rate, ratio)
    else:
        error = ratio.std().item() / 20_000**0.5
        assert ratio.mean().item() == pytest.approx(rate[0].item(), abs=4 * error)


def test_latent_is_the_posterior_mean_and_its_deviation_times_the_noise() -> None:
    x, noise = images()
    terms = build()(x, noise)
    expected = terms.mean_BM + terms.log_variance_BM.exp().sqrt() * noise
    torch.testing.assert_close(terms.latent_BM, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_imagined_latents_follow_the_prior_and_the_seed(
    dtype: torch.dtype, device: torch.device
) -> None:
    vae = build(prior=Normal(mean=3.0, scale=0.5)).to(device, dtype)
    latent = vae.imagine(10_000, seed=1)
    assert latent.shape == (10_000, 4)
    assert (latent.dtype, latent.device.type) == (dtype, device.type)
    assert not latent.requires_grad
    error = 4 * 0.5 / 10_000**0.5
    assert latent.mean(0).tolist() == pytest.approx([3.0] * 4, abs=error)
    assert latent.std(0).tolist() == pytest.approx([0.5] * 4, abs=error)
    assert torch.equal(latent, vae.imagine(10_000, seed=1))
    assert not torch.equal(latent, vae.imagine(10_000, seed=2))
    torch.testing.assert_close(
        vae.generate(3, seed=5), vae.likelihood.mean(vae.decode(vae.imagine(3, seed=5)))
    )


def test_imagined_latents_of_a_mixture_come_from_all_its_components() -> None:
    vae = build(prior=Mixture(components=3))
    with torch.no_grad():
        vae.prior.mean.copy_(torch.tensor([[-100.0], [0.0], [100.0]]).expand(3, 4))
        vae.prior.logits.copy_(torch.tensor([0.5, 0.3, 0.2]).log())
    nearest = (vae.imagine(20_000)[:, 0] / 100).round()
    shares = [(nearest == place).float().mean().item() for place in (-1, 0, 1)]
    assert shares == pytest.approx([0.5, 0.3, 0.2], abs=0.015)


def test_model_of_a_trial_does_not_depend_on_its_prior() -> None:
    """The prior is drawn last, so that trials that differ in it start from the same weights."""
    plain, vamp = build(prior=Standard()), build(prior=Vamp(components=3))
    for part in ("encoder", "decoder"):
        ours, theirs = (getattr(vae, part).state_dict() for vae in (plain, vamp))
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
