import numpy as np
import pytest
import torch

from tune_vae.science.schedules.linear import Linear


@pytest.mark.parametrize("warmup", [0.01, 0.3, 1.0])
def test_weight_rises_in_a_straight_line_and_stays(warmup: float) -> None:
    progress = np.linspace(0, 1, 101)
    expected = np.interp(progress, [0, warmup, 1], [0, 1, 1])
    got = Linear(warmup=warmup).weight(torch.from_numpy(progress))
    assert got.numpy() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("warmup", [0.0, -0.1, 1.1, float("nan")])
def test_warmup_outside_the_training_is_refused(warmup: float) -> None:
    with pytest.raises(ValueError, match=f"above 0 and at most 1, got {warmup}"):
        Linear(warmup=warmup)
