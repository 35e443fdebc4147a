import math

import pytest
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from tune_vae.science.likelihoods.gaussian import Gaussian
from tune_vae.science.sigmas import Scale, soft_lower_bound
from tune_vae.science.sigmas.optimal import Optimal

GAUSSIAN = Gaussian(link="identity")


def images(error: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Images and what a decoder that errs by about `error` makes of them."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(20, 1, 4, 4, generator=generator, dtype=torch.float64)
    noise = torch.randn(20, 1, 4, 4, generator=generator, dtype=torch.float64)
    return x, (x + error * noise)[:, None]


def build(**arguments: float | str) -> Scale:
    return Optimal(**arguments).build((1, 4, 4)).double()


def log_sigma(scale: Scale, x: Tensor, params: Tensor) -> float:
    given: float = scale(x, params, params[:, :0], GAUSSIAN).item()
    return given


@pytest.mark.parametrize("error", [0.02, 0.1, 0.5])
def test_training_uses_the_argmin_over_sigma_of_the_batch_likelihood(error: float) -> None:
    x, params = images(error)

    def cost(log_sigma: float) -> float:
        log_sigma_ = torch.tensor(log_sigma, dtype=torch.float64)
        return -GAUSSIAN.log_prob(x, params, log_sigma_).mean().item()

    best = minimize_scalar(cost, bounds=(-8, 2), method="bounded", options={"xatol": 1e-8})
    got = log_sigma(build().train(), x, params)
    bounded = soft_lower_bound(torch.tensor(best.x, dtype=torch.float64))
    assert got == pytest.approx(bounded.item(), abs=1e-6)
    # The soft bound costs little where sigma is well above e^-6.
    assert cost(got) - best.fun < 0.02


@pytest.mark.parametrize("estimator", ["batch", "running"])
def test_gradient_reaches_the_decoder_but_not_through_sigma(estimator: str) -> None:
    x, params = images(0.1)
    params.requires_grad_()
    got = build(estimator=estimator).train()(x, params, params[:, :0], GAUSSIAN)
    assert not got.requires_grad
    (gradient,) = torch.autograd.grad(GAUSSIAN.log_prob(x, params, got).sum(), params)
    expected = (x[:, None] - params) / (2 * got).exp()
    torch.testing.assert_close(gradient, expected.detach())


def test_first_batches_are_averaged_evenly() -> None:
    scale = build(decay=0.9)
    variances = []
    for seed in range(10):
        trained = log_sigma(scale.train(), *images(0.05 * (1 + seed), seed))
        variances.append(math.exp(2 * trained))
        evaluated = log_sigma(scale.eval(), *images(0.3))
        mean = sum(variances) / len(variances)
        assert math.exp(2 * evaluated) == pytest.approx(mean, rel=1e-9)


def test_later_batches_replace_the_past_at_the_rate_of_the_decay() -> None:
    scale = build(decay=0.5)
    expected = math.nan
    for seed in range(8):
        variance = math.exp(2 * log_sigma(scale.train(), *images(0.05 * (1 + seed), seed)))
        expected = variance if seed == 0 else 0.5 * expected + 0.5 * variance
    assert math.exp(2 * log_sigma(scale.eval(), *images(0.3))) == pytest.approx(expected)


def test_running_estimator_trains_with_the_average_that_the_batch_has_entered() -> None:
    """A decay of 0.8 averages four batches evenly, by the mean squared error of all of them."""
    scale = build(decay=0.8, estimator="running").train()
    batches = [images(error, seed) for seed, error in enumerate((0.4, 0.3, 0.2, 0.1))]
    for seen in range(1, 5):
        got = log_sigma(scale, *batches[seen - 1])
        squares = [(x - params[:, 0]).square().mean().item() for x, params in batches[:seen]]
        # The soft bound raises the variance by some e^-6 of its root.
        assert math.exp(2 * got) == pytest.approx(sum(squares) / seen, rel=0.05)
        assert got == log_sigma(scale.eval(), *images(0.3))
        scale.train()


def test_both_estimators_keep_the_same_average_and_train_with_different_scales() -> None:
    of_batch = build(decay=0.7).train()
    running = build(decay=0.7, estimator="running").train()
    for seed in range(5):
        one, other = (log_sigma(scale, *images(0.5 / (1 + seed))) for scale in (of_batch, running))
        assert (other > one + 0.1) == (seed > 0)
        assert torch.equal(of_batch.variance, running.variance)


def test_without_decay_the_last_batch_alone_counts_in_both_estimators() -> None:
    scales = [build(decay=0.0, estimator=estimator).train() for estimator in ("batch", "running")]
    for error in (0.5, 0.1):
        one, other = (log_sigma(scale, *images(error)) for scale in scales)
        assert one == pytest.approx(other, abs=1e-12)
    for scale in scales:
        assert log_sigma(scale.eval(), *images(0.3)) == pytest.approx(one, abs=1e-12)


def test_images_that_are_met_exactly_leave_sigma_at_its_lower_bound() -> None:
    x, _ = images(0.0)
    scale = build()
    assert log_sigma(scale.train(), x, x[:, None]) == -6
    assert log_sigma(scale.eval(), x, x[:, None]) == pytest.approx(-6)


def test_different_arguments_do_not_fit_into_one_pack() -> None:
    assert Optimal(decay=0.9).pack_key() != Optimal(decay=0.8).pack_key()
    assert Optimal(estimator="running").pack_key() != Optimal().pack_key()


@pytest.mark.parametrize("decay", [1.0, -0.1, math.nan])
def test_decay_that_is_no_share_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match=f"at least 0 and below 1, got {decay}"):
        Optimal(decay=decay)
