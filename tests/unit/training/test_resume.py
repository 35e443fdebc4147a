"""A run that was interrupted ends where it would have ended."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.factories import member
from tests.unit.training.states import same
from tune_vae.data import Splits
from tune_vae.science.history import EpochReport
from tune_vae.science.likelihoods.continuous_bernoulli import ContinuousBernoulli
from tune_vae.science.networks.conv import Conv
from tune_vae.science.networks.mlp import Mlp
from tune_vae.science.schedules.cyclical import Cyclical
from tune_vae.science.sigmas.fixed import Fixed
from tune_vae.science.sigmas.optimal import Optimal
from tune_vae.science.sigmas.shared import Shared
from tune_vae.training.checkpoint import CheckpointStore
from tune_vae.training.trainer import Member, Trainer

EPOCHS = 4
MODELS = {
    "mlp-fixed": {"sigma": Fixed(sigma=0.2)},
    "mlp-shared": {"sigma": Shared()},
    "mlp-optimal": {"sigma": Optimal()},
    "mlp-continuous_bernoulli": {"likelihood": ContinuousBernoulli(), "sigma": None},
    "conv-optimal": {"network": Conv(channels=(4, 8)), "sigma": Optimal()},
}


def members(count: int, **changes: object) -> list[Member]:
    one = {"epochs": EPOCHS, "schedule": Cyclical(cycles=2), "network": Mlp((16,))} | changes
    return [
        member(trial, beta=0.5 + trial, lr=1e-3 * (1 + trial), **one) for trial in range(count)
    ]


def timeless(reports: list[EpochReport]) -> list[EpochReport]:
    return [replace(report, seconds=0.0) for report in reports]


def run(
    trainer: Trainer, pack: list[Member]
) -> tuple[list[list[EpochReport]], list[list[Mapping[str, object]]]]:
    """Reports and states after every epoch."""
    reports, states = [], []
    for turn in trainer:
        reports.append(timeless(turn))
        states.append([trainer.state(one.trial) for one in pack])
    return reports, states


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("model", MODELS)
def test_resuming_after_any_epoch_changes_no_bit(
    few_digits: Splits, tmp_path: Path, model: str, count: int
) -> None:
    pack = members(count, **MODELS[model])
    whole, states = run(Trainer(pack, few_digits), pack)
    store = CheckpointStore(tmp_path, "study")
    for epoch in range(1, EPOCHS):
        for one, state in zip(pack, states[epoch - 1], strict=True):
            store.save_last(one.trial, state)
        saved = {one.trial: store.last(one.trial) for one in pack}
        resumed, resumed_states = run(Trainer(pack, few_digits, resume=saved), pack)
        assert resumed == whole[epoch:]
        assert same(resumed_states, states[epoch:])


def test_finished_trial_has_nothing_left_to_run(few_digits: Splits) -> None:
    pack = members(1)
    _, states = run(Trainer(pack, few_digits), pack)
    resumed = Trainer(pack, few_digits, resume={0: states[-1][0]})
    assert resumed.living == []
    assert list(resumed) == []


def test_dead_member_is_still_dead_after_a_resume(few_digits: Splits) -> None:
    pack = members(1, sigma=Fixed(sigma=1e-25))
    whole, states = run(Trainer(pack, few_digits), pack)
    resumed, _ = run(Trainer(pack, few_digits, resume={0: states[0][0]}), pack)
    assert [turn[0].finite for turn in whole] == [False] * EPOCHS
    assert [turn[0].finite for turn in resumed] == [False] * (EPOCHS - 1)


def test_members_of_one_pack_may_resume_at_different_epochs(few_digits: Splits) -> None:
    """One goes on after epoch 3 and one begins, so that each is at an epoch of its own."""
    pack = members(2)
    whole, states = run(Trainer(pack, few_digits), pack)
    trainer = Trainer(pack, few_digits, resume={0: states[2][0]})
    turns = [timeless(turn) for turn in trainer]
    assert [[(r.trial, r.epoch) for r in turn] for turn in turns] == [
        [(0, 4), (1, 1)],
        [(1, 2)],
        [(1, 3)],
        [(1, 4)],
    ]
    assert turns[0][0].neg_elbo == pytest.approx(whole[3][0].neg_elbo, rel=1e-5)
    assert turns[3][0].neg_elbo == pytest.approx(whole[3][1].neg_elbo, rel=1e-4)


def test_saved_state_is_not_moved_by_further_training(few_digits: Splits) -> None:
    pack = members(2, sigma=Optimal())
    trainer = Trainer(pack, few_digits)
    turns = iter(trainer)
    next(turns)
    early = trainer.state(0)
    copy = {"theta": early["theta"].clone(), "buffers": dict(early["buffers"])}
    variance = early["buffers"]["scale.variance"].item()
    next(turns)
    assert torch.equal(early["theta"], copy["theta"])
    assert early["buffers"]["scale.variance"].item() == variance
    assert trainer.state(0)["buffers"]["scale.variance"].item() != variance


def test_resuming_leaves_the_saved_state_as_it_was(few_digits: Splits) -> None:
    pack = members(1, sigma=Optimal())
    state = Trainer(pack, few_digits).state(0)
    theta, variance = state["theta"].clone(), state["buffers"]["scale.variance"].item()
    list(Trainer(pack, few_digits, resume={0: state}))
    assert torch.equal(state["theta"], theta)
    assert state["buffers"]["scale.variance"].item() == variance
