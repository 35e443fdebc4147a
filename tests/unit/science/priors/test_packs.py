"""Priors in packs: a trial does not know who trains beside it, nor that it was resumed."""

from dataclasses import replace

import pytest
import torch

from tests.factories import member
from tune_vae.data import Splits
from tune_vae.science.networks.conv import Conv
from tune_vae.science.priors import Prior
from tune_vae.science.priors.mixture import Mixture
from tune_vae.science.priors.normal import Normal
from tune_vae.science.priors.vamp import Vamp
from tune_vae.training.trainer import Member, Trainer

every_prior = pytest.mark.parametrize(
    "prior",
    [Normal(scale=2.0), Mixture(components=1), Mixture(components=3), Vamp(components=3)],
    ids=repr,
)


def members(prior: Prior) -> list[Member]:
    return [member(trial, prior=prior, epochs=2, lr=1e-3 * (trial + 1)) for trial in range(3)]


def numbers(trainer: Trainer) -> list[list[tuple[float, ...]]]:
    """Of each epoch, of each member, what it reports."""
    return [
        [
            (report.train_rate_nats, report.train_distortion_nats, *report.rate_per_latent_nats)
            for report in reports
        ]
        for reports in trainer
    ]


@every_prior
def test_member_of_a_pack_equals_the_same_trial_alone(few_digits: Splits, prior: Prior) -> None:
    pack = members(prior)
    together = numbers(Trainer(pack, few_digits, dtype=torch.float64))
    for k, one in enumerate(pack):
        alone = numbers(Trainer([one], few_digits, dtype=torch.float64))
        for ours, theirs in zip(together, alone, strict=True):
            assert ours[k] == pytest.approx(theirs[0], rel=1e-9, abs=1e-12)


def test_pseudo_inputs_pass_through_packed_convolutions(few_digits: Splits) -> None:
    pack = [replace(one, network=Conv(channels=(4, 8))) for one in members(Vamp(components=3))]
    together = numbers(Trainer(pack, few_digits, dtype=torch.float64))
    alone = numbers(Trainer(pack[:1], few_digits, dtype=torch.float64))
    assert together[-1][0] == pytest.approx(alone[-1][0], rel=1e-9)


@every_prior
def test_resuming_changes_no_bit(few_digits: Splits, prior: Prior) -> None:
    pack = members(prior)
    trainer = Trainer(pack, few_digits)
    turns = iter(trainer)
    next(turns)
    saved = {one.trial: trainer.state(one.trial) for one in pack}
    rest = numbers(turns)
    assert numbers(Trainer(pack, few_digits, resume=saved)) == rest


@pytest.mark.parametrize("prior", [Mixture(components=3), Vamp(components=3)], ids=repr)
def test_prior_is_trained_with_the_rest(few_digits: Splits, prior: Prior) -> None:
    """What the encoder says of validation images is nearer to the trained prior."""
    before, after = [
        Trainer([member(prior=prior, epochs=epochs)], few_digits) for epochs in (1, 5)
    ]
    for trainer in (before, after):
        list(trainer)
    untrained, trained = before.scores()[0], after.scores()[0]
    assert trained["neg_elbo"] < untrained["neg_elbo"] - 1
    assert trained["rate_nats"] > 0
