"""A member that was lost goes on from an earlier state at half its learning rate.

`RawVariance` loses its loss for real: at these learning rates in epoch 1 or 2 of 8 steps, and
only in the validation of epoch 1.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.factories import member
from tests.losing import RawVariance
from tests.unit.training.states import same
from tune_vae.data import Splits
from tune_vae.science.history import EpochReport, Rollback
from tune_vae.science.networks.mlp import Mlp
from tune_vae.training.trainer import Member, Trainer, rollbacks_of

EPOCHS = 4
State = Mapping[str, Any]


def losing(trial: int = 0, **changes: object) -> Member:
    """Lost at step 15, in epoch 2; at half the learning rate it is not."""
    one = {
        "seed": 0,
        "network": Mlp((16,)),
        "sigma": RawVariance(start=2.0),
        "beta": 0.16,
        "lr": 0.014,
        "epochs": EPOCHS,
    }
    return member(trial, **(one | changes))


def train(
    pack: list[Member], data: Splits, rollbacks: int = 1, **settings: Any
) -> tuple[dict[int, list[EpochReport]], dict[int, list[State]]]:
    """All reports, also of lost epochs, and all states from which a member went on, by trial."""
    trainer = Trainer(pack, data, **settings)
    resumed = settings.get("resume", {})
    told: dict[int, list[EpochReport]] = {one.trial: [] for one in pack}
    states: dict[int, list[State]] = {one.trial: [] for one in pack}
    for reports in trainer:
        for report in reports:
            told[report.trial].append(replace(report, seconds=0.0))
            kept = states[report.trial]
            if report.lost and report.rollbacks < rollbacks:
                trainer.roll_back(report, kept[-1] if kept else resumed.get(report.trial))
            elif report.lost:
                trainer.retire(report.trial)
            kept.append(trainer.state(report.trial))
    return told, states


def test_lost_epoch_is_run_again_at_half_the_learning_rate(few_digits: Splits) -> None:
    told, states = train([losing()], few_digits)
    first, lost, *others = told[0]
    assert (lost.epoch, lost.lost_step, lost.lr, lost.rollbacks) == (2, 15, 0.014, 0)
    assert [report.epoch for report in others] == [2, 3, 4]
    assert all(report.finite and not report.lost for report in (first, *others))
    assert [report.lr for report in others] == [0.007] * 3
    assert [report.rollbacks for report in others] == [1] * 3
    assert rollbacks_of(states[0][-1]) == (
        Rollback(step=15, epoch=2, resumed=1, lr_before=0.014, lr_after=0.007),
    )


@pytest.mark.parametrize(
    ("one", "epochs_before"),
    [(losing(), 1), (losing(lr=0.026, sigma=RawVariance(start=1.0)), 0)],
    ids=["from epoch 1", "from the beginning"],
)
def test_after_a_rollback_it_is_a_training_at_half_the_learning_rate(
    few_digits: Splits, one: Member, epochs_before: int
) -> None:
    """The truth is a member that never knew of rollbacks and was resumed with another lr."""
    told, states = train([one], few_digits)
    assert [report.lost for report in told[0]].index(True) == epochs_before
    before = states[0][epochs_before - 1] if epochs_before else None
    (calm,) = train(
        [replace(one, lr=one.lr / 2)], few_digits, resume={0: before} if before else {}
    )[0].values()
    after = told[0][epochs_before + 1 :]
    assert len(after) == EPOCHS - epochs_before
    assert [replace(report, rollbacks=0) for report in after] == calm


def test_moments_and_count_of_updates_are_those_of_the_checkpoint(few_digits: Splits) -> None:
    _, states = train([losing()], few_digits)
    before, back = states[0][0], states[0][1]
    assert before["updates"] == back["updates"] == 8
    for name in ("theta", "first", "second", "alive"):
        assert torch.equal(back[name], before[name])
    assert back["epoch"] == before["epoch"] == 1


def test_member_that_is_lost_again_has_a_quarter_of_its_learning_rate(few_digits: Splits) -> None:
    one = losing(lr=0.04, sigma=RawVariance(start=4.0, gain=20.0))
    told, states = train([one], few_digits, rollbacks=2)
    rollbacks = rollbacks_of(states[0][-1])
    assert [report.lost for report in told[0]].count(True) >= 2
    assert [(back.lr_before, back.lr_after) for back in rollbacks] == [(0.04, 0.02), (0.02, 0.01)]
    assert told[0][-1].lr == 0.01
    assert told[0][-1].rollbacks == 2


def test_loss_that_only_validation_sees_is_one(few_digits: Splits) -> None:
    one = losing(lr=0.008, sigma=RawVariance(start=4.0, gain=20.0), epochs=8, batch_size=64)
    told, states = train([one], few_digits)
    (lost,) = [report for report in told[0] if report.lost]
    assert (lost.finite, lost.epoch, lost.lost_step) == (True, 6, None)
    (back,) = rollbacks_of(states[0][-1])
    assert (back.step, back.epoch, back.resumed) == (None, 6, 5)
    assert told[0][-1].epoch == 8
    assert not told[0][-1].lost


@pytest.mark.parametrize("count", [1, 2])
def test_resuming_after_any_epoch_changes_no_bit_across_a_rollback(
    few_digits: Splits, count: int
) -> None:
    pack = [losing(), losing(1, seed=1, lr=0.005)][:count]
    told, states = train(pack, few_digits)
    # One turn more than there are epochs, in which only the first still trains.
    for turn in range(1, EPOCHS + 1):
        kept = {trial: after[min(turn, len(after)) - 1] for trial, after in states.items()}
        resumed, resumed_states = train(pack, few_digits, resume=kept)
        for one in pack:
            # As text, in which a NaN equals a NaN.
            assert repr(resumed[one.trial]) == repr(told[one.trial][turn:])
            for a, b in zip(resumed_states[one.trial], states[one.trial][turn:], strict=True):
                assert same(a, b)


def test_pack_equals_its_members_alone_across_a_rollback(few_digits: Splits) -> None:
    """Each is rolled back, or not, in its own epoch and trains for its own epochs."""
    pack = [
        losing(0, seed=5, lr=0.006),
        losing(1),
        losing(2, seed=3, lr=0.014, epochs=6),
        losing(3, lr=0.02),
    ]
    together, _ = train(pack, few_digits, dtype=torch.float64)
    for one in pack:
        (alone,) = train([one], few_digits, dtype=torch.float64)[0].values()
        beside = together[one.trial]
        assert [(r.epoch, r.lost, r.lr, r.step) for r in beside] == [
            (r.epoch, r.lost, r.lr, r.step) for r in alone
        ]
        for a, b in zip(beside, alone, strict=True):
            for name in ("rate_nats", "distortion_nats", "bits_per_dim", "sigma", "mse"):
                assert getattr(a, name) == pytest.approx(getattr(b, name), rel=1e-9, nan_ok=True)
    assert [any(r.lost for r in together[trial]) for trial in range(4)] == [False, *[True] * 3]


def test_neighbours_of_one_that_is_rolled_back_are_moved_by_no_bit(few_digits: Splits) -> None:
    """Against the same pack in which it is left for dead."""
    pack = [losing(0, seed=5, lr=0.006), losing(1), losing(2, seed=3, lr=0.006)]
    rolled = train(pack, few_digits)[0]
    left = Trainer(pack, few_digits)
    curves: dict[int, list[EpochReport]] = {0: [], 1: [], 2: []}
    for reports in left:
        for report in reports:
            curves[report.trial].append(replace(report, seconds=0.0))
    assert rolled[1][2].rollbacks == 1
    assert rolled[0] == curves[0]
    assert rolled[2] == curves[2]


def test_state_of_an_earlier_version_has_no_rollbacks_and_goes_on(few_digits: Splits) -> None:
    told, states = train([losing()], few_digits)
    old = {name: value for name, value in states[0][0].items() if name != "rollbacks"}
    assert rollbacks_of(old) == ()
    resumed, _ = train([losing()], few_digits, resume={0: old})
    assert [r.lost for r in resumed[0]] == [True, False, False, False]
    assert resumed[0][-1] == told[0][-1]
