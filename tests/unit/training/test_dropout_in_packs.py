"""Dropout in packs: a trial's masks do not depend on its neighbours, nor on being resumed."""

from dataclasses import replace

import pytest
import torch

from tests.discovery import component_classes
from tests.factories import member, small
from tests.unit.training.curves import curve, curves, left_after_an_epoch, numbers
from tune_vae.data import Splits
from tune_vae.science.history import EpochReport
from tune_vae.science.networks import Network
from tune_vae.science.networks.mlp import Mlp
from tune_vae.training.trainer import Member, Trainer

EPOCHS = 3
STEPS_PER_EPOCH = 8

every_network = pytest.mark.parametrize(
    "network",
    [
        replace(small(kind), dropout=0.3, decoder_factor=2.0)
        for kind in component_classes("science.networks")
    ],
    ids=repr,
)


def members(network: Network, count: int = 3) -> list[Member]:
    return [
        member(trial, network=network, epochs=EPOCHS, lr=1e-3 * (1 + trial))
        for trial in range(count)
    ]


def counters(trainer: Trainer, trial: int) -> dict[str, int]:
    buffers = trainer.state(trial)["buffers"]
    return {name: int(value) for name, value in buffers.items() if name.endswith("calls")}


@every_network
def test_member_of_a_pack_equals_the_same_trial_alone(
    few_digits: Splits, network: Network, device: torch.device
) -> None:
    """With the masks of another trial, nothing would be equal to a single digit."""
    pack = members(network)
    settings = {"dtype": torch.float64, "device": device}
    together = curves(Trainer(pack, few_digits, **settings))
    assert len({reports[-1].neg_elbo for reports in together.values()}) == len(pack)
    for one in pack:
        alone = curve(Trainer([one], few_digits, **settings))
        assert len(alone) == EPOCHS
        assert numbers(together[one.trial]) == pytest.approx(numbers(alone), rel=1e-9)


@every_network
@pytest.mark.parametrize("count", [1, 2])
def test_resuming_changes_no_bit(few_digits: Splits, network: Network, count: int) -> None:
    pack = members(network, count)
    saved, rest = left_after_an_epoch(pack, few_digits)
    assert curves(Trainer(pack, few_digits, resume=saved)) == rest
    # A run that began its masks anew would have gone elsewhere.
    forgetful = {
        trial: state
        | {"buffers": {name: torch.zeros_like(value) for name, value in state["buffers"].items()}}
        for trial, state in saved.items()
    }
    assert curves(Trainer(pack, few_digits, resume=forgetful)) != rest


@every_network
def test_masks_are_counted_in_training_only_and_in_whole_numbers(
    few_digits: Splits, network: Network
) -> None:
    trainer = Trainer(members(network), few_digits)
    for turn in range(1, EPOCHS + 1):
        next(iter(trainer))
        for trial in range(3):
            calls = counters(trainer, trial)
            assert calls
            assert set(calls.values()) == {turn * STEPS_PER_EPOCH}
    before, scores = trainer.state(1)["buffers"], trainer.scores()
    assert trainer.scores() == scores
    after = trainer.state(1)["buffers"]
    assert all(torch.equal(before[name], after[name]) for name in before)
    seeds = [trainer.state(trial)["buffers"] for trial in range(3)]
    for name in (name for name in before if name.endswith("seed")):
        assert before[name].dtype == torch.int64
        assert len({int(buffers[name]) for buffers in seeds}) == 3


def test_member_that_leaves_does_not_move_the_masks_of_the_others(few_digits: Splits) -> None:
    pack = members(Mlp(hidden=(16,), dropout=0.5))
    trainer = Trainer(pack, few_digits, dtype=torch.float64)
    told: list[EpochReport] = []
    for reports in trainer:
        told += [report for report in reports if report.trial == 2]
        trainer.retire(0)
    alone = curve(Trainer(pack[2:], few_digits, dtype=torch.float64))
    assert numbers(told) == pytest.approx(numbers(alone), rel=1e-9)


def test_dropout_takes_part_in_training(few_digits: Splits) -> None:
    """What is left out costs distortion in training, and less of it where nothing is left out."""
    plain, dropping = (
        curve(Trainer([member(network=Mlp(hidden=(32,), dropout=rate))], few_digits))[-1]
        for rate in (0.0, 0.5)
    )
    assert dropping.train_distortion_nats > plain.train_distortion_nats
    assert dropping.train_distortion_nats > dropping.distortion_nats
