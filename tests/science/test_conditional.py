r"""A conditional model whose evidence is known.

With a linear decoder $x = W z + U e_y + b + \sigma \epsilon$, where $e_y$ is 1 for the class y,
the data of each class are normal with mean $U e_y + b$ and covariance $W W^T + \sigma^2 I$.

Shapes: B batch, N values, M latents, Y classes.
"""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence

from tests.science.linear import LATENTS, SIGMA, elbo, linear_vae
from tune_vae.science.bound import importance_weighted
from tune_vae.science.evaluation import score
from tune_vae.science.likelihoods.gaussian import Gaussian
from tune_vae.science.networks.mlp import Mlp
from tune_vae.science.priors.vamp import Vamp
from tune_vae.science.sigmas.fixed import Fixed
from tune_vae.science.vae import LOG_VARIANCE_BOUND, VAE

SHAPE, VALUES, CLASSES = (2, 3, 2), 12, 4
LABELS = torch.tensor([0, 1, 2, 3, 3, 0])


def build(seed: int, *, spread: float = 1.0) -> VAE:
    return linear_vae(seed, SHAPE, spread=spread, classes=CLASSES)


def images(seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(len(LABELS), *SHAPE, generator=generator, dtype=torch.float64)


def weights(vae: VAE) -> tuple[Tensor, Tensor]:
    """W, and the mean of each class, `YN`."""
    decoder = vae.decoder[0]
    weight = decoder.weight.detach()
    return weight[:, :LATENTS], weight[:, LATENTS:].T + decoder.bias.detach()


def log_evidence(vae: VAE, x: Tensor, label: Tensor) -> Tensor:
    weight, mean_YN = weights(vae)
    noise = SIGMA**2 * torch.eye(VALUES, dtype=torch.float64)
    model = MultivariateNormal(mean_YN[label], weight @ weight.T + noise)
    return model.log_prob(x.flatten(1))


def exact_posterior(vae: VAE, x: Tensor, label: Tensor) -> MultivariateNormal:
    weight, mean_YN = weights(vae)
    identity = torch.eye(LATENTS, dtype=torch.float64)
    covariance = torch.linalg.inv(identity + weight.T @ weight / SIGMA**2)
    mean_BM = (x.flatten(1) - mean_YN[label]) @ weight @ covariance / SIGMA**2
    return MultivariateNormal(mean_BM, covariance)


@pytest.mark.parametrize("seed", range(5))
def test_what_the_elbo_lacks_of_the_evidence_is_the_divergence_from_the_exact_posterior(
    seed: int,
) -> None:
    vae, x = build(seed, spread=0.5), images(seed)
    mean_BM, log_variance_BM = vae.encode(x, LABELS)
    posterior = MultivariateNormal(mean_BM, log_variance_BM.exp().diag_embed())
    gap = kl_divergence(posterior, exact_posterior(vae, x, LABELS)).detach()
    lacking = log_evidence(vae, x, LABELS) - elbo(vae, x, LABELS)
    assert (lacking > 0).all()
    torch.testing.assert_close(lacking, gap)


def with_exact_encoder(seed: int) -> VAE:
    """Orthogonal columns make the exact posterior diagonal, so that the encoder can be it."""
    vae = build(seed)
    encoder, decoder = vae.encoder[1], vae.decoder[0]
    lengths_M = torch.tensor([2.0, 1.0, 0.1], dtype=torch.float64)
    pixels = math.prod(SHAPE[1:])
    with torch.no_grad():
        orthogonal = torch.linalg.qr(decoder.weight[:, :LATENTS]).Q
        decoder.weight[:, :LATENTS] = orthogonal * lengths_M
        variance_M = 1 / (1 + lengths_M.square() / SIGMA**2)
        gain_MN = variance_M[:, None] * decoder.weight[:, :LATENTS].T / SIGMA**2
        _, mean_YN = weights(vae)
        encoder.weight.zero_()
        encoder.weight[:LATENTS, :VALUES] = gain_MN
        # The label's channels follow those of the image; a share of the offset on each pixel.
        offset_MY = -gain_MN @ mean_YN.T / pixels
        encoder.weight[:LATENTS, VALUES:] = offset_MY.repeat_interleave(pixels, dim=1)
        bound = LOG_VARIANCE_BOUND
        log_variance_M = bound * torch.atanh(variance_M.log() / bound)
        encoder.bias.copy_(torch.cat([torch.zeros(LATENTS), log_variance_M]))
    return vae


def test_bounds_are_the_evidence_given_the_label_under_the_exact_posterior() -> None:
    vae, x = with_exact_encoder(0), images()
    evidence = log_evidence(vae, x, LABELS)
    torch.testing.assert_close(elbo(vae, x, LABELS), evidence)
    noise = torch.randn(7, len(x), LATENTS, dtype=torch.float64)
    bound = importance_weighted(vae, x, noise, LABELS, levels=256)
    torch.testing.assert_close(bound.log_prob_B, evidence)
    # Of another label it is the evidence under that one.
    other = LABELS.roll(1)
    torch.testing.assert_close(elbo(vae, x, other), log_evidence(vae, x, other))
    assert not torch.allclose(log_evidence(vae, x, other), evidence)


def test_score_is_that_of_the_label() -> None:
    vae, x = with_exact_encoder(1), images(1)
    noise = torch.zeros(len(x), LATENTS, dtype=torch.float64)
    told = score(vae, x, noise, torch.tensor(-1.0), LABELS, levels=256)
    mean_BM = exact_posterior(vae, x, LABELS).mean
    weight, mean_YN = weights(vae)
    error = (x.flatten(1) - mean_BM @ weight.T - mean_YN[LABELS]).square().mean(1)
    torch.testing.assert_close(told.squared_error_B, error)
    reconstructed = vae.reconstruct(x, LABELS)
    torch.testing.assert_close((reconstructed - x).square().flatten(1).mean(1), error)


def test_generated_images_are_those_of_their_labels() -> None:
    vae = build(2)
    weight, mean_YN = weights(vae)
    latent_BM = vae.imagine(6, seed=3)
    expected = (latent_BM @ weight.T + mean_YN[LABELS]).view(6, *SHAPE)
    torch.testing.assert_close(vae.generate(6, seed=3, labels=LABELS), expected)
    torch.testing.assert_close(vae.generate(6, seed=3, labels=LABELS.tolist()), expected)
    in_turn = (latent_BM @ weight.T + mean_YN[[0, 1, 2, 3, 0, 1]]).view(6, *SHAPE)
    torch.testing.assert_close(vae.generate(6, seed=3), in_turn)


def test_conditional_model_must_be_told_labels() -> None:
    vae, x = build(0), images()
    for call in (vae.encode, vae.reconstruct, lambda x: vae.decode(vae.imagine(len(x)))):
        with pytest.raises(ValueError, match="must be told the label of each example"):
            call(x)


@pytest.mark.parametrize("labels", [[0], [0, 4], [-1, 0], [[0, 1]]])
def test_labels_that_do_not_fit_are_refused(labels: list[int]) -> None:
    with pytest.raises(ValueError, match="give 2 labels; this model knows 0 to 3"):
        build(0).generate(2, labels=labels)


def test_model_that_is_told_nothing_ignores_labels_and_makes_none() -> None:
    vae = VAE(
        network=Mlp(hidden=()),
        likelihood=Gaussian(),
        sigma=Fixed(),
        shape=SHAPE,
        latent_dim=2,
    )
    x = images().float()
    assert torch.equal(vae.reconstruct(x, LABELS), vae.reconstruct(x))
    with pytest.raises(ValueError, match="this model knows none"):
        vae.generate(2, labels=[0, 0])


def test_prior_of_encoded_examples_is_refused() -> None:
    with pytest.raises(ValueError, match="Vamp is no prior of a conditional model"):
        VAE(
            network=Mlp(hidden=()),
            likelihood=Gaussian(),
            sigma=Fixed(),
            shape=SHAPE,
            latent_dim=2,
            prior=Vamp(components=2),
            classes=2,
        )
