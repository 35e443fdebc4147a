"""When it is known that nobody in a pack trains any more."""

import pytest
import torch

from tests.factories import member
from tests.losing import LostAt
from tune_vae.data import Splits
from tune_vae.training.lookout import Lookout
from tune_vae.training.trainer import Member, Trainer

STEPS, NEVER = 64, 10**6


def losing(*steps: int) -> list[Member]:
    """Members that are lost at these steps, of two epochs of 64."""
    return [member(k, sigma=LostAt(s), batch_size=4, epochs=2) for k, s in enumerate(steps)]


def steps_run(trainer: Trainer, trial: int = 0) -> int:
    return int(trainer.state(trial)["buffers"]["scale.steps"])


@pytest.mark.parametrize(
    "looks",
    [
        [True, True, True],
        [True, False, False],
        [False, False, False],
        [True, True, False, True],
    ],
    ids=str,
)
@pytest.mark.parametrize("others", [0, 2])
def test_each_look_answers_the_one_before_it(
    looks: list[bool], others: int, device: torch.device
) -> None:
    lookout = Lookout()
    pack = [torch.tensor([False] * others + [alive], device=device) for alive in looks]
    told = [lookout.all_lost(alive_K) for alive_K in pack]
    assert told == [False, *(not alive for alive in looks[:-1])]


def test_pack_is_not_lost_while_one_member_is_alive(device: torch.device) -> None:
    lookout = Lookout()
    for alive in ([True, False], [False, True], [False, False]):
        assert not lookout.all_lost(torch.tensor(alive, device=device))
    assert lookout.all_lost(torch.tensor([False, False], device=device))


@pytest.mark.parametrize("step", [1, 2, 9, 10, 11, 19, 20, 21, 43])
def test_epoch_ends_within_20_steps_of_the_loss(
    few_digits: Splits, device: torch.device, step: int
) -> None:
    trainer = Trainer(losing(step), few_digits, device=device)
    (report,) = next(iter(trainer))
    assert step <= steps_run(trainer) <= step + 20
    assert steps_run(trainer) < STEPS
    assert not report.finite
    assert (report.epoch, report.step, report.lost_step) == (1, step, step)


@pytest.mark.parametrize("step", [STEPS - 2, STEPS, NEVER])
def test_epoch_of_a_late_loss_or_of_none_is_run_to_its_end(few_digits: Splits, step: int) -> None:
    trainer = Trainer(losing(step), few_digits)
    (report,) = next(iter(trainer))
    assert steps_run(trainer) == STEPS
    assert report.step == min(step, STEPS)
    assert report.lost_step == (step if step < NEVER else None)


def test_loss_of_a_later_epoch_is_counted_from_the_first(few_digits: Splits) -> None:
    trainer = Trainer(losing(STEPS + 7), few_digits)
    first, second = (reports[0] for reports in trainer)
    assert (first.finite, first.step, first.lost_step) == (True, STEPS, None)
    assert (second.epoch, second.step, second.lost_step) == (2, STEPS + 7, STEPS + 7)
    assert STEPS + 7 <= steps_run(trainer) <= STEPS + 7 + 20


def test_pack_goes_on_until_its_last_member_is_lost(few_digits: Splits) -> None:
    trainer = Trainer(losing(5, 28, 17), few_digits)
    reports = next(iter(trainer))
    assert [report.lost_step for report in reports] == [5, 28, 17]
    assert [report.step for report in reports] == [5, 28, 17]
    assert all(28 <= steps_run(trainer, trial) <= 28 + 20 for trial in range(3))


def test_lost_member_rides_along_with_one_that_lives(few_digits: Splits) -> None:
    trainer = Trainer(losing(5, NEVER), few_digits)
    lost, alive = next(iter(trainer))
    assert steps_run(trainer) == STEPS
    assert (lost.finite, lost.lost_step, lost.step) == (False, 5, 5)
    assert (alive.finite, alive.lost_step, alive.step) == (True, None, STEPS)
