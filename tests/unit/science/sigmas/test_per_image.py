"""Shapes: B batch, C H W image."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.stats import norm
from torch import Tensor

from tune_vae.science.evaluation import score
from tune_vae.science.likelihoods import Likelihood
from tune_vae.science.likelihoods.gaussian import Gaussian
from tune_vae.science.likelihoods.laplace import Laplace
from tune_vae.science.likelihoods.student_t import StudentT
from tune_vae.science.networks.mlp import Mlp
from tune_vae.science.sigmas import Scale
from tune_vae.science.sigmas.per_image import PerImage
from tune_vae.science.vae import VAE

SHAPE = (1, 6, 6)
STEP = math.sqrt(6 / 36)
GAUSSIAN = Gaussian(link="identity")


def images(count: int, seed: int = 0, *, spread: float = 0.5) -> tuple[Tensor, Tensor]:
    """Images and what a decoder makes of them that errs more on some than on others."""
    generator = torch.Generator().manual_seed(seed)
    params = torch.rand(count, 1, *SHAPE, generator=generator, dtype=torch.float64)
    log_sigma = -2 + spread * torch.randn(count, 1, 1, 1, generator=generator).double()
    noise = torch.randn(count, *SHAPE, generator=generator, dtype=torch.float64)
    return params[:, 0] + log_sigma.exp() * noise, params


def built(decay: float = 0.98) -> Scale:
    return PerImage(decay=decay).build(SHAPE).double().train()


def best_log_sigma(likelihood: Likelihood, x: Tensor, params: Tensor) -> float:
    """Of one image, by scipy, and softly bounded."""

    def cost(log_sigma: float) -> float:
        return -likelihood.log_prob(x, params, torch.tensor(log_sigma).double()).sum().item()

    found = minimize_scalar(cost, bounds=(-8, 2), method="bounded", options={"xatol": 1e-8})
    return -6 + math.log1p(math.exp(found.x + 6))


@pytest.mark.parametrize(
    "likelihood",
    [GAUSSIAN, Laplace(link="identity"), StudentT(link="identity")],
    ids=repr,
)
def test_each_image_gets_the_cell_of_its_own_argmin(likelihood: Likelihood) -> None:
    x, params = images(12)
    for mode in (True, False):
        log_sigma = built().train(mode)(x, params, params[:, :0], likelihood)
        assert log_sigma.shape == (12, 1, 1, 1)
        for one, image, its_params in zip(log_sigma.flatten().tolist(), x, params, strict=True):
            best = best_log_sigma(likelihood, image[None], its_params[None])
            assert abs(one - best) <= STEP / 2 + 1e-5
            cells = (one + 6) / STEP
            assert cells == pytest.approx(round(cells), abs=1e-9)


def test_an_image_is_scored_alike_alone_and_among_others() -> None:
    scale, (x, params) = built(), images(12)
    scale(x, params, params[:, :0], GAUSSIAN)
    scale.eval()
    together = scale(x, params, params[:, :0], GAUSSIAN)
    for i in range(12):
        alone = scale(x[i : i + 1], params[i : i + 1], params[i : i + 1, :0], GAUSSIAN)
        torch.testing.assert_close(alone, together[i : i + 1])
        torch.testing.assert_close(scale.code_nats(alone), scale.code_nats(together)[i : i + 1])


def test_first_batches_give_the_moments_of_all_their_images() -> None:
    scale, seen = built(decay=0.9), []
    for seed in range(5):
        x, params = images(8, seed, spread=0.2 * (1 + seed))
        scale(x, params, params[:, :0], GAUSSIAN)
        seen += [best_log_sigma(GAUSSIAN, *one) for one in zip(x, params[:, None], strict=True)]
        assert scale.mean.item() == pytest.approx(np.mean(seen), abs=1e-6)
        assert scale.variance.item() == pytest.approx(np.var(seen), abs=1e-6)


def test_later_batches_give_the_moments_of_all_with_fading_weights() -> None:
    scale, seen = built(decay=0.5), []
    for seed in range(7):
        x, params = images(8, seed, spread=0.2 * (1 + seed))
        scale(x, params, params[:, :0], GAUSSIAN)
        seen += [[best_log_sigma(GAUSSIAN, *one) for one in zip(x, params[:, None], strict=True)]]
    weights = np.repeat([0.5**6, 0.5**6, 0.5**5, 0.5**4, 0.5**3, 0.5**2, 0.5], 8) / 8
    mean = np.average(np.ravel(seen), weights=weights)
    variance = np.average((np.ravel(seen) - mean) ** 2, weights=weights)
    assert scale.mean.item() == pytest.approx(mean, abs=1e-6)
    assert scale.variance.item() == pytest.approx(variance, abs=1e-6)


@pytest.mark.parametrize("deviation", [0.3, 1.5])
def test_code_is_the_logarithm_of_the_prior_probability_of_the_cell(deviation: float) -> None:
    scale = built()
    with torch.no_grad():
        scale.mean.fill_(-4.0)
        scale.variance.fill_(deviation**2)
    cells = np.arange(60)
    edges = np.concatenate([[-np.inf], -6 + STEP * (cells[1:] - 0.5), [np.inf]])
    mass = np.diff(norm.cdf(edges, loc=-4.0, scale=deviation))
    code_B = scale.code_nats(torch.from_numpy(-6 + STEP * cells[:30])[:, None, None, None])
    assert code_B.shape == (30,)
    likely = mass[:30] > 1e-9
    np.testing.assert_allclose(code_B.numpy()[likely], -np.log(mass[:30][likely]), rtol=1e-6)


@pytest.mark.parametrize("deviation", [0.0, 0.3, 3.0])
@pytest.mark.parametrize("mean", [-6.0, -3.0, 1.0])
def test_probabilities_of_all_cells_sum_to_one(mean: float, deviation: float) -> None:
    scale = built()
    with torch.no_grad():
        scale.mean.fill_(mean)
        scale.variance.fill_(deviation**2)
    grid = -6 + STEP * torch.arange(200, dtype=torch.float64)
    assert scale.code_nats(grid).neg().exp().sum().item() == pytest.approx(1, abs=1e-12)


def test_no_prior_is_narrower_than_the_error_of_one_estimate() -> None:
    """After images whose scales are all the same, one of another scale costs a finite price.

    The prior's deviation is then that of an estimate from 36 values, 1 / sqrt(2 · 36).
    """
    scale = built()
    x = torch.full((4, *SHAPE), 0.1).double()
    zero = torch.zeros(4, 1, *SHAPE).double()
    log_sigma = scale(x, zero, zero[:, :0], GAUSSIAN)
    assert scale.variance.item() == pytest.approx(0, abs=1e-12)
    mean, cell = scale.mean.item(), log_sigma[0].item() + STEP
    edges = np.array([cell - STEP / 2, cell + STEP / 2])
    mass = np.diff(norm.cdf(edges, loc=mean, scale=1 / math.sqrt(72)))
    nats = scale.code_nats(torch.tensor([cell]).double()).item()
    assert nats == pytest.approx(-math.log(mass.item()), rel=1e-9)


@pytest.mark.parametrize("sigma", [0.004, 0.05, 0.3, 1.0])
def test_before_any_training_every_usual_scale_has_a_fair_price(sigma: float) -> None:
    """Each of 784 values costs some nats; the scale of an image costs less than ten in all."""
    scale = PerImage().build((1, 28, 28)).eval()
    x = torch.full((1, 1, 28, 28), sigma)
    zero = torch.zeros(1, 1, 1, 28, 28)
    log_sigma = scale(x, zero, zero[:, :0], GAUSSIAN)
    assert log_sigma.exp().item() == pytest.approx(sigma, abs=0.003, rel=0.05)
    assert 1 < scale.code_nats(log_sigma).item() < 10


def test_gradient_reaches_the_decoder_but_not_through_sigma_or_its_code() -> None:
    x, params = images(5)
    params.requires_grad_()
    scale = built()
    log_sigma = scale(x, params, params[:, :0], GAUSSIAN)
    assert not log_sigma.requires_grad
    assert not scale.code_nats(log_sigma).requires_grad
    (gradient,) = torch.autograd.grad(GAUSSIAN.log_prob(x, params, log_sigma).sum(), params)
    expected = (x[:, None] - params) / (2 * log_sigma[:, None]).exp()
    torch.testing.assert_close(gradient, expected.detach())


def test_model_and_score_pay_for_the_scale_of_each_image() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vae = VAE(
            network=Mlp(hidden=(4,)),
            likelihood=Gaussian(),
            sigma=PerImage(),
            shape=SHAPE,
            latent_dim=2,
        )
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (7, *SHAPE), generator=generator) / 255
    x[3] = 0.5
    noise = torch.zeros(7, 2)
    for mode in (True, False):
        terms = vae.train(mode)(x, noise)
        edges = (terms.log_sigma.flatten()[:, None] + torch.tensor([-0.5, 0.5]) * STEP).numpy()
        prior = norm(vae.scale.mean.item(), max(vae.scale.variance.item(), 1 / 72) ** 0.5)
        code_B = -np.log(np.diff(prior.cdf(edges.astype(float)))[:, 0])
        np.testing.assert_allclose(terms.scale_nats_B.detach().numpy(), code_B, rtol=1e-3)
        bare_B = -vae.likelihood.log_prob(x, terms.params, terms.log_sigma).flatten(1).sum(1)
        torch.testing.assert_close(
            terms.distortion_B - bare_B, terms.scale_nats_B, atol=1e-3, rtol=0
        )
    with torch.no_grad():
        scores = score(vae, x, noise, torch.tensor(-1.0), levels=256)
        mass = vae.likelihood.log_mass(x, terms.params, terms.log_sigma, levels=256)
    torch.testing.assert_close(
        scores.mass_nats_B, terms.scale_nats_B.double() - mass.flatten(1).sum(1)
    )


def test_only_equal_decays_fit_into_one_pack() -> None:
    assert PerImage(decay=0.9).pack_key() == PerImage(decay=0.9).pack_key()
    assert PerImage(decay=0.9).pack_key() != PerImage(decay=0.8).pack_key()


@pytest.mark.parametrize("decay", [1.0, -0.1, math.nan])
def test_decay_that_is_no_share_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match=f"at least 0 and below 1, got {decay}"):
        PerImage(decay=decay)
