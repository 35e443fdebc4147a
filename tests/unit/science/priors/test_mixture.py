import pytest
import torch
from torch import Tensor

from tune_vae.science.priors.mixture import Mixture
from tune_vae.science.priors.normal import Normal
from tune_vae.science.priors.vamp import Vamp


def nothing(features: Tensor) -> tuple[Tensor, Tensor]:
    raise AssertionError("a mixture needs no encoder")


@pytest.mark.parametrize("spread", [0.1, 0.5, 0.9])
def test_many_components_start_as_a_standard_normal_whatever_their_spread(spread: float) -> None:
    count = 40_000
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        components = Mixture(components=count, spread=spread).build((1, 2, 2), 3)(nothing)
    mean_CM, log_variance_CM, log_weight_C = components
    between_M, within_M = mean_CM.var(0), log_variance_CM.exp().mean(0)
    error = 5 / count**0.5
    assert mean_CM.mean(0).abs().max() < error * spread
    assert between_M.tolist() == pytest.approx([spread**2] * 3, rel=2 * error)
    assert (between_M + within_M).tolist() == pytest.approx([1.0] * 3, abs=2 * error)
    assert log_weight_C.exp().tolist() == pytest.approx([1 / count] * count)


def test_one_component_equals_the_normal_distribution_of_its_place_and_width() -> None:
    model = Mixture(components=1).build((1, 2, 2), 3)
    with torch.no_grad():
        model.mean.fill_(-0.5)
        model.log_variance.fill_(4 * torch.tensor(2.0).log())
    normal = Normal(mean=-0.5, scale=4.0).build((1, 2, 2), 3)
    generator = torch.Generator().manual_seed(0)
    mean_BM, log_variance_BM, latent_BM = torch.randn(3, 6, 3, generator=generator)
    ours, theirs = model(nothing), normal(nothing)
    torch.testing.assert_close(
        ours.rate_nats(mean_BM, log_variance_BM, latent_BM),
        theirs.rate_nats(mean_BM, log_variance_BM, latent_BM),
    )
    torch.testing.assert_close(ours.log_prob(latent_BM), theirs.log_prob(latent_BM))
    uniform_B = torch.rand(6, generator=generator)
    torch.testing.assert_close(ours.draw(mean_BM, uniform_B), theirs.draw(mean_BM, uniform_B))


def test_learning_finds_the_clusters_of_the_posteriors() -> None:
    """Two thirds of the posteriors at (-3, 1), one third at (2, 2)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Mixture(components=2).build((1, 2, 2), 2)
    mean_BM = torch.tensor([[-3.0, 1.0]] * 20 + [[2.0, 2.0]] * 10)
    log_variance_BM = torch.full_like(mean_BM, -2.0)
    generator = torch.Generator().manual_seed(0)
    learned, lr = list(model.parameters()), 0.1
    for _ in range(600):
        noise = torch.randn(mean_BM.shape, generator=generator)
        latent_BM = mean_BM + (0.5 * log_variance_BM).exp() * noise
        rate = model(nothing).rate_nats(mean_BM, log_variance_BM, latent_BM).sum(1).mean()
        with torch.no_grad():
            for parameter, slope in zip(learned, torch.autograd.grad(rate, learned), strict=True):
                parameter.sub_(lr * slope)
    found = model(nothing)
    order = found.mean_CM[:, 0].argsort()
    assert found.mean_CM[order].flatten().tolist() == pytest.approx([-3, 1, 2, 2], abs=0.15)
    assert found.log_variance_CM.flatten().tolist() == pytest.approx([-2.0] * 4, abs=0.3)
    assert found.log_weight_C[order].exp().tolist() == pytest.approx([2 / 3, 1 / 3], abs=0.02)


def test_number_of_components_decides_who_shares_a_pack() -> None:
    assert Mixture(spread=0.1).pack_key() == Mixture(spread=0.9).pack_key()
    assert Mixture(components=2).pack_key() != Mixture(components=3).pack_key()


@pytest.mark.parametrize("make", [Mixture, Vamp])
def test_mixture_of_nothing_is_refused(make: type[Mixture] | type[Vamp]) -> None:
    with pytest.raises(ValueError, match="components must be at least 1, got 0"):
        make(components=0)


@pytest.mark.parametrize("spread", [0.0, 1.0, -0.5, float("nan")])
def test_spread_that_leaves_no_variance_is_refused(spread: float) -> None:
    with pytest.raises(ValueError, match=f"above 0 and below 1, got {spread}"):
        Mixture(spread=spread)
