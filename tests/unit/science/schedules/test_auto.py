import pytest
import torch

from tune_vae.science.schedules import Schedule
from tune_vae.science.schedules.auto import Auto
from tune_vae.science.schedules.cosine import Cosine
from tune_vae.science.schedules.linear import Linear
from tune_vae.science.schedules.sigmoid import Sigmoid

every_shape = pytest.mark.parametrize(
    ("shape", "make"), [("linear", Linear), ("sigmoid", Sigmoid), ("cosine", Cosine)]
)


@every_shape
def test_warm_up_is_of_its_shape_and_lasts_its_steps(shape: str, make: type[Schedule]) -> None:
    assert Auto(steps=300, shape=shape).for_steps(1200) == make(warmup=0.25)


@pytest.mark.parametrize("steps", [2_000, 3_000, 7_777, 10_000])
def test_weight_reaches_1_at_the_stated_step_of_a_training_that_is_long_enough(steps: int) -> None:
    step_T = torch.arange(1, steps + 1, dtype=torch.float64)
    weight_T = Auto(steps=1000).for_steps(steps).weight(step_T / steps)
    full = (weight_T > 1 - 1e-9).nonzero()[0].item() + 1
    assert full == 1000
    assert weight_T[499].item() == pytest.approx(0.5, rel=1e-9)


@pytest.mark.parametrize(("training", "warmup"), [(1, 0.5), (1500, 0.5), (10**6, 0.1)])
def test_short_trainings_keep_half_and_long_ones_give_a_tenth(
    training: int, warmup: float
) -> None:
    assert Auto(steps=1000).for_steps(training) == Linear(warmup=warmup)


@every_shape
def test_without_a_length_half_of_the_training_is_warm_up(
    shape: str, make: type[Schedule]
) -> None:
    progress_T = torch.linspace(0, 1, 41, dtype=torch.float64)
    got = Auto(shape=shape).weight(progress_T)
    assert torch.equal(got, make(warmup=0.5).weight(progress_T))


def test_other_schedules_do_not_depend_on_the_length() -> None:
    schedule = Linear(warmup=0.3)
    assert schedule.for_steps(10) is schedule


@pytest.mark.parametrize("steps", [0, -5])
def test_warm_up_of_no_steps_is_refused(steps: int) -> None:
    with pytest.raises(ValueError, match=f"steps must be at least 1, got {steps}"):
        Auto(steps=steps)


def test_unknown_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="shape must be linear, sigmoid or cosine, got steps"):
        Auto(shape="steps")
