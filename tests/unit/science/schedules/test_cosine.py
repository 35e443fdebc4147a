import mpmath
import numpy as np
import pytest
import torch

from tune_vae.science.schedules.cosine import Cosine


@pytest.mark.parametrize(
    ("dtype", "relative"), [(torch.float64, 1e-9), (torch.float32, 2e-4)], ids=str
)
@pytest.mark.parametrize("warmup", [0.125, 0.75, 1.0])
def test_weight_is_half_a_cosine(warmup: float, dtype: torch.dtype, relative: float) -> None:
    progress = [0.0, 2.0**-20, 0.0625, 0.25, 0.5, 0.96875, 1.0]
    with mpmath.workdps(50):
        position = [min(mpmath.mpf(t) / warmup, mpmath.mpf(1)) for t in progress]
        exact = [float((1 - mpmath.cospi(u)) / 2) for u in position]
    got = Cosine(warmup=warmup).weight(torch.tensor(progress, dtype=dtype))
    assert got.tolist() == pytest.approx(exact, rel=relative)


def test_climb_is_flat_at_both_ends_and_steepest_in_the_middle() -> None:
    weight = Cosine(warmup=1.0).weight(torch.linspace(0, 1, 1001, dtype=torch.float64))
    slope = weight.diff().numpy() * 1000
    assert slope[0] < 0.01
    assert slope[-1] < 0.01
    assert slope.max() == pytest.approx(np.pi / 2, rel=1e-4)
    assert (weight.diff() > 0).all()


@pytest.mark.parametrize("warmup", [0.0, -0.1, 1.1, float("nan")])
def test_warmup_outside_the_training_is_refused(warmup: float) -> None:
    with pytest.raises(ValueError, match=f"above 0 and at most 1, got {warmup}"):
        Cosine(warmup=warmup)
