"""Information in the latents, against Gaussian channels and finite alphabets."""

import math

import pytest
import torch
from torch import Tensor

from tune_vae.science import information as module
from tune_vae.science.information import Estimate, Information, decoder_sensitivity, information


def normal(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def standard_rate(mean_nM: Tensor, log_variance_nM: Tensor) -> Tensor:
    posterior = torch.distributions.Normal(mean_nM, (0.5 * log_variance_nM).exp())
    prior = torch.distributions.Normal(torch.zeros_like(mean_nM), torch.ones_like(mean_nM))
    return torch.distributions.kl_divergence(posterior, prior).sum(1)


def channel(
    count: int, mixing_MM: Tensor, variance_M: Tensor, seed: int = 0, shift: float = 0.0
) -> tuple[Information, float, float]:
    """Gaussian data through a linear encoder with Gaussian noise: estimate, truth and true gap.

    With z = Ax + e the aggregate posterior is normal with covariance AA' + D, so that
    I = log det(AA' + D) / 2 - log det(D) / 2.
    """
    latents = len(variance_M)
    mean_nM = normal(count, latents, seed=seed) @ mixing_MM.T + shift
    log_variance_nM = variance_M.log().expand(count, -1)
    latent_nM = mean_nM + variance_M.sqrt() * normal(count, latents, seed=seed + 10_000)
    aggregate = torch.distributions.MultivariateNormal(
        torch.full((latents,), shift).double(), mixing_MM @ mixing_MM.T + variance_M.diag()
    )
    prior = torch.distributions.MultivariateNormal(
        torch.zeros(latents).double(), torch.eye(latents).double()
    )
    truth = 0.5 * (aggregate.covariance_matrix.logdet() - variance_M.log().sum())
    gap = torch.distributions.kl_divergence(aggregate, prior)
    rate_n = standard_rate(mean_nM, log_variance_nM)
    found = information(latent_nM, mean_nM, log_variance_nM, rate_n)
    return found, truth.item(), gap.item()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_information_of_a_gaussian_channel_is_its_closed_form(seed: int, shift: float) -> None:
    mixing_MM = 0.6 * normal(3, 3, seed=50 + seed)
    variance_M = torch.tensor([0.3, 0.9, 2.0], dtype=torch.float64)
    found, truth, gap = channel(3000, mixing_MM, variance_M, seed, shift)
    assert 0.3 < truth < 3
    assert abs(found.mutual.value - truth) < 3 * found.mutual.error + 0.02
    assert abs(found.gap.value - gap) < 3 * found.gap.error + 0.02
    assert not found.saturated


def test_standard_error_is_the_spread_over_new_probes() -> None:
    mixing_MM, variance_M = torch.eye(4).double(), torch.full((4,), 0.5).double()
    found = [channel(300, mixing_MM, variance_M, seed)[0] for seed in range(200)]
    for name in ("mutual", "gap"):
        values = torch.stack([getattr(one, name).value for one in found])
        errors = torch.stack([getattr(one, name).error for one in found])
        # 200 repetitions know a standard deviation to 5 %.
        assert errors.mean().item() == pytest.approx(values.std().item(), rel=0.15)


def test_estimate_is_low_rather_than_high() -> None:
    mixing_MM, variance_M = 1.5 * torch.eye(4).double(), torch.full((4,), 0.3).double()
    found = [channel(60, mixing_MM, variance_M, seed) for seed in range(50)]
    mean = torch.stack([one.mutual.value for one, _, _ in found]).mean()
    assert mean < found[0][1]


def test_a_collapsed_posterior_holds_no_information() -> None:
    """Every example has the same posterior, here not the prior; the gap is the whole rate."""
    mean_nM, log_variance_nM = torch.full((500, 5), 0.7), torch.full((500, 5), -0.4)
    latent_nM = mean_nM + (0.5 * log_variance_nM).exp() * normal(500, 5).float()
    rate_n = standard_rate(mean_nM, log_variance_nM)
    found = information(latent_nM, mean_nM, log_variance_nM, rate_n)
    assert abs(found.mutual.value) < 1e-12
    assert found.mutual.error < 1e-12
    torch.testing.assert_close(found.gap.value, rate_n.double().mean())


def test_a_nearly_collapsed_posterior_holds_nothing_within_its_error() -> None:
    mean_nM = 0.01 * normal(1000, 10)
    found = information(
        mean_nM + normal(1000, 10, seed=1),
        mean_nM,
        torch.zeros(1000, 10),
        standard_rate(mean_nM, torch.zeros(1000, 10).double()),
    )
    assert abs(found.mutual.value) < 0.005
    assert abs(found.mutual.value) < 3 * found.mutual.error


@pytest.mark.parametrize("count", [2, 100])
def test_estimate_saturates_at_the_logarithm_of_the_probes(count: int) -> None:
    found, truth, _ = channel(count, 1e4 * torch.eye(6).double(), torch.ones(6).double())
    assert truth > 50
    assert found.limit == pytest.approx(math.log(count))
    assert found.mutual.value.item() == pytest.approx(math.log(count), rel=1e-6)
    assert found.saturated


def test_estimate_is_never_above_its_limit() -> None:
    for power in range(-3, 4):
        found, _, _ = channel(50, 10.0**power * torch.eye(3).double(), torch.ones(3).double())
        assert found.mutual.value <= found.limit + 1e-9


def test_groups_that_share_a_posterior_hold_the_information_of_the_group() -> None:
    """Eight far groups, of which one is half of all: the entropy of the groups."""
    sizes = [64, 32, 16, 4, 4, 4, 2, 2]
    group = torch.repeat_interleave(torch.arange(8), torch.tensor(sizes))
    mean_nM = 100.0 * group[:, None].double()
    found = information(
        mean_nM + normal(128, 1), mean_nM, torch.zeros(128, 1), torch.zeros(128).double()
    )
    entropy = -sum(size / 128 * math.log(size / 128) for size in sizes)
    assert found.mutual.value.item() == pytest.approx(entropy, abs=1e-9)


def test_information_is_the_same_however_it_is_divided(
    monkeypatch: pytest.MonkeyPatch, device: torch.device
) -> None:
    mean_nM = 2 * normal(130, 3).to(device)
    log_variance_nM = normal(130, 3, seed=1).to(device) - 1
    latent_nM = mean_nM + (0.5 * log_variance_nM).exp() * normal(130, 3, seed=2).to(device)
    given = (latent_nM, mean_nM, log_variance_nM, standard_rate(mean_nM, log_variance_nM))
    whole = information(*given)
    monkeypatch.setattr(module, "ROWS", 37)
    divided = information(*given)
    torch.testing.assert_close(divided.mutual, whole.mutual)
    torch.testing.assert_close(divided.gap, whole.gap)


def test_information_of_unequal_posteriors_is_that_of_the_mixture() -> None:
    """Against torch's own mixture of normals."""
    mean_nM, log_variance_nM = 2 * normal(40, 3), 2 * normal(40, 3, seed=1)
    latent_nM = mean_nM + (0.5 * log_variance_nM).exp() * normal(40, 3, seed=2)
    each = torch.distributions.Independent(
        torch.distributions.Normal(mean_nM, (0.5 * log_variance_nM).exp()), 1
    )
    mixture = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(logits=torch.zeros(40)), each
    )
    expected = (each.log_prob(latent_nM) - mixture.log_prob(latent_nM)).mean()
    found = information(latent_nM, mean_nM, log_variance_nM, torch.zeros(40))
    torch.testing.assert_close(found.mutual.value, expected)


def test_narrow_posteriors_far_from_the_origin_lose_no_digits() -> None:
    mean_nM, log_variance_nM = normal(50, 4), torch.full((50, 4), -12.0).double()
    noise_nM = (0.5 * log_variance_nM).exp() * normal(50, 4, seed=1)
    near = information(mean_nM + noise_nM, mean_nM, log_variance_nM, torch.zeros(50))
    mean_nM = mean_nM + 1000.0
    far = information(mean_nM + noise_nM, mean_nM, log_variance_nM, torch.zeros(50))
    torch.testing.assert_close(far.mutual.value, near.mutual.value, rtol=0, atol=1e-5)


def test_what_is_not_finite_makes_the_information_missing() -> None:
    mean_nM = normal(20, 2)
    mean_nM[3, 1] = math.nan
    found = information(mean_nM, mean_nM, torch.zeros(20, 2), torch.zeros(20))
    assert found.mutual.value.isnan()
    assert found.gap.value.isnan()


def test_error_of_a_mean_is_the_deviation_over_the_root_of_the_count() -> None:
    terms = 3 * normal(1000) + 5
    estimate = Estimate.of(terms)
    torch.testing.assert_close(estimate.value, terms.mean())
    torch.testing.assert_close(estimate.error, terms.std() / math.sqrt(1000))
    assert Estimate.of(terms[:1]).error.isnan()


def test_a_decoder_that_ignores_its_latent_is_not_sensitive() -> None:
    x = normal(50, 1, 4, 4)
    constant = x.mean(0).expand_as(x)
    assert decoder_sensitivity(constant, constant.roll(1, 0), x) == 0
    # Also when it is told of the example by another way than the latent.
    assert decoder_sensitivity(x, x, x) == 0


@pytest.mark.parametrize("share", [0.25, 1.0, 2.0])
def test_sensitivity_is_the_variance_of_the_means_over_that_of_the_data(share: float) -> None:
    x = 0.3 * normal(20_000, 1, 2, 2) + 0.5
    image = 0.1 + math.sqrt(share) * x
    found = decoder_sensitivity(image.float(), image.roll(1, 0).float(), x.float())
    # 80,000 independent pairs of values.
    assert found.item() == pytest.approx(share, rel=0.03)
    drawn = 0.1 + math.sqrt(share) * (0.3 * normal(20_000, 1, 2, 2, seed=1) + 0.5)
    assert decoder_sensitivity(image, drawn, x).item() == pytest.approx(share, rel=0.03)


def test_sensitivity_has_no_unit() -> None:
    x, image = normal(30, 1, 4, 4), normal(30, 1, 4, 4, seed=1)
    found = decoder_sensitivity(image, image.roll(1, 0), x)
    brighter = decoder_sensitivity(255 * image + 7, 255 * image.roll(1, 0) + 7, 255 * x - 3)
    torch.testing.assert_close(found, brighter)


def test_sensitivities_of_many_models_are_those_of_each() -> None:
    x, images = normal(10, 1, 4, 4), normal(3, 10, 1, 4, 4, seed=1)
    together = torch.func.vmap(decoder_sensitivity, in_dims=(0, 0, None))(
        images, images.roll(1, 1), x
    )
    each = [decoder_sensitivity(one, one.roll(1, 0), x) for one in images]
    torch.testing.assert_close(together, torch.stack(each))
