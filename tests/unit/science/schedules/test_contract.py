"""What every KL schedule guarantees, checked on every file of the family."""

import pytest
import torch

from tests.discovery import component_classes, is_frozen
from tune_vae.science.schedules import Schedule

every_schedule = pytest.mark.parametrize(
    "schedule", [make() for make in component_classes("science.schedules")], ids=repr
)
every_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


@every_schedule
def test_schedule_is_a_frozen_value(schedule: Schedule) -> None:
    assert is_frozen(type(schedule))
    assert len({schedule, type(schedule)(**vars(schedule))}) == 1


@every_schedule
@every_dtype
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 64, 1000])
def test_weight_lies_between_0_and_1_and_ends_at_exactly_1(
    schedule: Schedule, dtype: torch.dtype, steps: int, device: torch.device
) -> None:
    progress_T = torch.arange(1, steps + 1, dtype=torch.float64, device=device) / steps
    weight_T = schedule.weight(progress_T.to(dtype))
    assert weight_T.shape == (steps,)
    assert weight_T.dtype == dtype
    assert ((weight_T >= 0) & (weight_T <= 1)).all()
    assert weight_T[-1] == 1


@every_schedule
def test_each_moment_is_weighed_by_itself(schedule: Schedule, device: torch.device) -> None:
    progress_T = torch.rand(60, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    progress_T = progress_T.to(device)
    weight_T = schedule.weight(progress_T)
    torch.testing.assert_close(schedule.weight(progress_T.flip(0)), weight_T.flip(0))
    torch.testing.assert_close(schedule.weight(progress_T.view(5, 12)), weight_T.view(5, 12))
    torch.testing.assert_close(schedule.weight(progress_T[7]), weight_T[7])


@every_schedule
@pytest.mark.parametrize("steps", [1, 2, 999, 1000, 1001, 3333, 10_000, 12_345, 10**7])
def test_schedule_of_any_length_keeps_the_contract(schedule: Schedule, steps: int) -> None:
    fitted = schedule.for_steps(steps)
    assert is_frozen(type(fitted))
    assert fitted == schedule.for_steps(steps)
    assert fitted.for_steps(steps) == fitted
    last = torch.arange(max(1, steps - 50), steps + 1, dtype=torch.float64)
    weight_T = fitted.weight(last / steps)
    assert ((weight_T >= 0) & (weight_T <= 1)).all()
    assert weight_T[-1] == 1
