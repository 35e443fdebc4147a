import numpy as np
import pytest
import torch
from scipy.special import expit

from tune_vae.science.schedules.sigmoid import Sigmoid


@pytest.mark.parametrize("steepness", [0.01, 3.0, 10.0, 100.0])
@pytest.mark.parametrize("warmup", [0.2, 1.0])
def test_weight_is_the_logistic_curve_stretched_to_0_and_1(
    warmup: float, steepness: float
) -> None:
    progress = np.linspace(0, 1, 101)
    position = np.minimum(progress / warmup, 1)
    plain, low, high = (expit(steepness * (u - 0.5)) for u in (position, 0.0, 1.0))
    got = Sigmoid(warmup=warmup, steepness=steepness).weight(torch.from_numpy(progress))
    assert got.numpy() == pytest.approx((plain - low) / (high - low), abs=1e-12)
    assert got[0] == 0
    assert np.abs(got.numpy() - plain).max() < np.exp(-steepness / 2) + 1e-12


def test_curve_is_symmetric_about_its_middle() -> None:
    position = torch.linspace(0, 1, 41, dtype=torch.float64)
    weight = Sigmoid(warmup=1.0).weight(position)
    torch.testing.assert_close(weight + weight.flip(0), torch.ones_like(weight))
    assert (weight.diff() > 0).all()


@pytest.mark.parametrize("steepness", [0.01, 100.0])
@pytest.mark.parametrize("steps", range(1, 40))
def test_last_step_has_weight_1_to_the_last_digit(steps: int, steepness: float) -> None:
    """Vector and scalar tanh may round differently, depending on the length of the tensor."""
    progress = torch.arange(1, steps + 1) / steps
    assert Sigmoid(steepness=steepness, warmup=1.0).weight(progress)[-1] == 1


@pytest.mark.parametrize("warmup", [0.0, 1.1])
def test_warmup_outside_the_training_is_refused(warmup: float) -> None:
    with pytest.raises(ValueError, match=f"warmup must be above 0 and at most 1, got {warmup}"):
        Sigmoid(warmup=warmup)


@pytest.mark.parametrize("steepness", [0.0, 101.0])
def test_steepness_without_a_curve_is_refused(steepness: float) -> None:
    with pytest.raises(ValueError, match=f"above 0 and at most 100, got {steepness}"):
        Sigmoid(steepness=steepness)
