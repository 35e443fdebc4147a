r"""The elbo of a model whose evidence is known.

With a linear decoder $x = W z + b + \sigma \epsilon$ the data are normal with covariance
$W W^T + \sigma^2 I$, and the posterior is normal with covariance
$S = (I + W^T W / \sigma^2)^{-1}$ and mean $S W^T (x - b) / \sigma^2$.

Shapes: B batch, N values, M latents.
"""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence

from tests.science.linear import LATENTS, SIGMA, elbo, linear_vae
from tune_vae.science.vae import LOG_VARIANCE_BOUND, VAE
from tune_vae.training.pack import Knobs, Pack, fresh_row

SHAPE, VALUES = (1, 3, 4), 12


def build(seed: int, *, spread: float = 1.0) -> VAE:
    return linear_vae(seed, SHAPE, spread=spread)


def images(seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(8, *SHAPE, generator=generator, dtype=torch.float64)


def log_evidence(vae: VAE, x: Tensor) -> Tensor:
    decoder = vae.decoder[0]
    noise = SIGMA**2 * torch.eye(VALUES, dtype=torch.float64)
    model = MultivariateNormal(decoder.bias, decoder.weight @ decoder.weight.T + noise)
    return model.log_prob(x.flatten(1)).detach()


def exact_posterior(vae: VAE, x: Tensor) -> MultivariateNormal:
    weight, bias = vae.decoder[0].weight.detach(), vae.decoder[0].bias.detach()
    identity = torch.eye(LATENTS, dtype=torch.float64)
    covariance = torch.linalg.inv(identity + weight.T @ weight / SIGMA**2)
    mean_BM = (x.flatten(1) - bias) @ weight @ covariance / SIGMA**2
    return MultivariateNormal(mean_BM, covariance)


@pytest.mark.parametrize("seed", range(10))
def test_elbo_is_at_most_the_evidence(seed: int) -> None:
    vae, x = build(seed, spread=0.3), images(seed)
    assert (elbo(vae, x) <= log_evidence(vae, x)).all()


@pytest.mark.parametrize("seed", range(3))
def test_what_the_elbo_lacks_is_the_divergence_from_the_exact_posterior(seed: int) -> None:
    vae, x = build(seed), images(seed)
    mean_BM, log_variance_BM = vae.encode(x)
    posterior = MultivariateNormal(mean_BM, log_variance_BM.exp().diag_embed())
    gap = kl_divergence(posterior, exact_posterior(vae, x))
    torch.testing.assert_close(log_evidence(vae, x) - elbo(vae, x), gap.detach())


def test_elbo_is_the_evidence_under_the_exact_posterior() -> None:
    """Orthogonal columns make the exact posterior diagonal, so that the encoder can be it."""
    vae, x = build(0), images()
    encoder, decoder = vae.encoder[1], vae.decoder[0]
    lengths_M = torch.tensor([2.0, 1.0, 0.1], dtype=torch.float64)
    with torch.no_grad():
        decoder.weight.copy_(torch.linalg.qr(decoder.weight).Q * lengths_M)
        variance_M = 1 / (1 + lengths_M.square() / SIGMA**2)
        gain_MN = variance_M[:, None] * decoder.weight.T / SIGMA**2
        encoder.weight.copy_(torch.cat([gain_MN, torch.zeros_like(gain_MN)]))
        # What the model's soft bound makes of it is the logarithm.
        bound = LOG_VARIANCE_BOUND
        log_variance_M = bound * torch.atanh(variance_M.log() / bound)
        encoder.bias.copy_(torch.cat([-gain_MN @ decoder.bias, log_variance_M]))
    torch.testing.assert_close(elbo(vae, x), log_evidence(vae, x))


def test_sampled_elbo_has_that_expectation() -> None:
    vae, x = build(0, spread=0.3), images()
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(2000, LATENTS, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        terms = vae(x[:1].expand(2000, *SHAPE), noise)
    sampled = -(terms.distortion_B + terms.rate_BM.sum(1))
    error = sampled.std() / 2000**0.5
    assert (sampled.mean() - elbo(vae, x)[0]).abs() <= 4 * error


def test_training_reaches_the_evidence_of_probabilistic_pca() -> None:
    r"""Within 1 % of the highest evidence that any linear model of this noise has.

    With the eigenvalues $\lambda$ of the data's covariance the best decoder of M latents models
    the variance $\max(\lambda_i, \sigma^2)$ in the first M directions and $\sigma^2$ in the
    others (Tipping & Bishop, 1999, https://doi.org/10.1111/1467-9868.00196).
    """
    generator = torch.Generator().manual_seed(1)
    mixing = torch.randn(LATENTS, VALUES, generator=generator, dtype=torch.float64)
    factors, noise = (
        torch.randn(512, size, generator=generator, dtype=torch.float64)
        for size in (LATENTS, VALUES)
    )
    x_nN = factors @ mixing + SIGMA * noise
    x = x_nN.view(512, *SHAPE)
    variance_N = torch.linalg.eigvalsh(x_nN.T.cov(correction=0)).flip(0)
    modelled_N = torch.full_like(variance_N, SIGMA**2)
    modelled_N[:LATENTS] = variance_N[:LATENTS].clamp(min=SIGMA**2)
    each_N = (2 * math.pi * modelled_N).log() + variance_N / modelled_N
    highest = -0.5 * each_N.sum()

    pack = Pack(build(0), [fresh_row(build(0, spread=0.3))], [Knobs(1.0, 1e-2, 0.0, math.inf)])
    for _ in range(1500):
        step_noise = torch.randn(1, 512, LATENTS, generator=generator, dtype=torch.float64)
        pack.step(x[None], step_noise, torch.ones(1, dtype=torch.float64))
    trained = build(0)
    torch.nn.utils.vector_to_parameters(pack.row(0)["theta"], trained.parameters())
    reached = elbo(trained, x).mean()
    assert reached <= log_evidence(trained, x).mean() <= highest
    assert reached > highest - 0.01 * highest.abs()
