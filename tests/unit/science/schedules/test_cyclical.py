import numpy as np
import pytest
import torch

from tune_vae.science.schedules import Schedule
from tune_vae.science.schedules.cosine import Cosine
from tune_vae.science.schedules.cyclical import Cyclical
from tune_vae.science.schedules.linear import Linear
from tune_vae.science.schedules.sigmoid import Sigmoid


def fu_et_al(steps: int, cycles: int, ramp: float) -> np.ndarray:
    """The schedule of Fu et al. (2019), equations 6 and 7, at steps 1 … T."""
    period = -(-steps // cycles)
    tau = ((np.arange(1, steps + 1) - 1) % period) / period
    return np.where(tau <= ramp, tau / ramp, 1.0)


@pytest.mark.parametrize(("cycles", "ramp"), [(1, 0.5), (4, 0.5), (4, 1.0), (5, 0.25)])
def test_weight_is_that_of_fu_et_al(cycles: int, ramp: float) -> None:
    """Their first step has progress 0; ours ends at progress 1, where theirs never arrives."""
    steps = cycles * 32
    progress = torch.arange(steps, dtype=torch.float64) / steps
    got = Cyclical(cycles=cycles, ramp=ramp).weight(progress).numpy()
    assert got == pytest.approx(fu_et_al(steps, cycles, ramp), abs=1e-9)


@pytest.mark.parametrize("ramp", [0.1, 0.5, 1.0])
@pytest.mark.parametrize(
    ("shape", "make"), [("linear", Linear), ("sigmoid", Sigmoid), ("cosine", Cosine)]
)
def test_one_cycle_is_a_warm_up_of_its_shape(
    shape: str, make: type[Schedule], ramp: float
) -> None:
    progress = torch.linspace(0, 1, 50, dtype=torch.float64)
    one = Cyclical(cycles=1, ramp=ramp, shape=shape)
    torch.testing.assert_close(one.weight(progress), make(warmup=ramp).weight(progress))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("steps", [1, 7, 100, 1000])
@pytest.mark.parametrize("shape", ["linear", "sigmoid", "cosine"])
def test_every_shape_climbs_each_cycle_and_ends_at_exactly_1(
    shape: str, steps: int, dtype: torch.dtype
) -> None:
    progress = (torch.arange(1, steps + 1, dtype=torch.float64) / steps).to(dtype)
    for ramp in (0.3, 1.0):
        weight = Cyclical(cycles=4, ramp=ramp, shape=shape).weight(progress)
        assert ((weight >= 0) & (weight <= 1)).all()
        assert weight[-1] == 1
        assert (weight.diff() < 0).sum() <= 4


def test_unknown_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="shape must be linear, sigmoid or cosine, got steps"):
        Cyclical(shape="steps")


def test_weight_falls_to_0_once_between_two_cycles() -> None:
    weight = Cyclical(cycles=4, ramp=0.5).weight(torch.arange(1, 1025, dtype=torch.float64) / 1024)
    assert (weight == 0).sum() == 3
    assert (weight.diff() < 0).sum() == 3


@pytest.mark.parametrize("cycles", [0, -1])
def test_fewer_than_one_cycle_is_refused(cycles: int) -> None:
    with pytest.raises(ValueError, match=f"cycles must be at least 1, got {cycles}"):
        Cyclical(cycles=cycles)


@pytest.mark.parametrize("ramp", [0.0, 1.5])
def test_ramp_that_is_no_share_is_refused(ramp: float) -> None:
    with pytest.raises(ValueError, match=f"above 0 and at most 1, got {ramp}"):
        Cyclical(ramp=ramp)
