import math

import pytest
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from tune_vae.science.likelihoods.gaussian import Gaussian
from tune_vae.science.sigmas import soft_lower_bound
from tune_vae.science.sigmas.optimal import Optimal

GAUSSIAN = Gaussian(link="identity")


def images(error: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Images and what a decoder that errs by about `error` makes of them."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(20, 1, 4, 4, generator=generator, dtype=torch.float64)
    noise = torch.randn(20, 1, 4, 4, generator=generator, dtype=torch.float64)
    return x, (x + error * noise)[:, None]


@pytest.mark.parametrize("error", [0.02, 0.1, 0.5])
def test_training_uses_the_argmin_over_sigma_of_the_batch_likelihood(error: float) -> None:
    x, params = images(error)

    def cost(log_sigma: float) -> float:
        log_sigma_ = torch.tensor(log_sigma, dtype=torch.float64)
        return -GAUSSIAN.log_prob(x, params, log_sigma_).mean().item()

    best = minimize_scalar(cost, bounds=(-8, 2), method="bounded", options={"xatol": 1e-8})
    log_sigma = Optimal().build((1, 4, 4)).double().train()(x, params, GAUSSIAN)
    bounded = soft_lower_bound(torch.tensor(best.x, dtype=torch.float64))
    assert log_sigma.item() == pytest.approx(bounded.item(), abs=1e-6)
    # The soft bound costs little where sigma is well above e^-6.
    assert cost(log_sigma.item()) - best.fun < 0.02


def test_gradient_reaches_the_decoder_but_not_through_sigma() -> None:
    x, params = images(0.1)
    log_sigma = Optimal().build((1, 4, 4)).double().train()(x, params.requires_grad_(), GAUSSIAN)
    assert not log_sigma.requires_grad


def test_first_batches_are_averaged_evenly() -> None:
    scale = Optimal(decay=0.9).build((1, 4, 4)).double()
    variances = []
    for seed in range(10):
        log_sigma = scale.train()(*images(0.05 * (1 + seed), seed), GAUSSIAN)
        variances.append(math.exp(2 * log_sigma.item()))
        evaluated = scale.eval()(*images(0.3), GAUSSIAN)
        mean = sum(variances) / len(variances)
        assert math.exp(2 * evaluated.item()) == pytest.approx(mean, rel=1e-9)


def test_later_batches_replace_the_past_at_the_rate_of_the_decay() -> None:
    scale = Optimal(decay=0.5).build((1, 4, 4)).double()
    expected = math.nan
    for seed in range(8):
        log_sigma = scale.train()(*images(0.05 * (1 + seed), seed), GAUSSIAN)
        variance = math.exp(2 * log_sigma.item())
        expected = variance if seed == 0 else 0.5 * expected + 0.5 * variance
    assert math.exp(2 * scale.eval()(*images(0.3), GAUSSIAN).item()) == pytest.approx(expected)


def test_without_decay_the_last_batch_alone_counts() -> None:
    scale = Optimal(decay=0.0).build((1, 4, 4)).double()
    for error in (0.5, 0.1):
        log_sigma = scale.train()(*images(error), GAUSSIAN)
    assert scale.eval()(*images(0.3), GAUSSIAN).item() == pytest.approx(log_sigma.item())


def test_images_that_are_met_exactly_leave_sigma_at_its_lower_bound() -> None:
    x, _ = images(0.0)
    scale = Optimal().build((1, 4, 4)).double()
    assert scale.train()(x, x[:, None], GAUSSIAN).item() == -6
    assert scale.eval()(x, x[:, None], GAUSSIAN).item() == pytest.approx(-6)


def test_different_decays_do_not_fit_into_one_pack() -> None:
    assert Optimal(decay=0.9).pack_key() != Optimal(decay=0.8).pack_key()


@pytest.mark.parametrize("decay", [1.0, -0.1, math.nan])
def test_decay_that_is_no_share_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match=f"at least 0 and below 1, got {decay}"):
        Optimal(decay=decay)
