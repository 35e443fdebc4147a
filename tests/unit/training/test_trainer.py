"""Whole epochs: what is reported, what depends on what, and what is refused."""

import math
from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch

from tests.factories import member
from tune_vae.data import Splits, scale
from tune_vae.errors import CheckpointError, DataError
from tune_vae.science.history import OBJECTIVES, EpochReport
from tune_vae.science.likelihoods.bernoulli import Bernoulli
from tune_vae.science.likelihoods.continuous_bernoulli import ContinuousBernoulli
from tune_vae.science.likelihoods.gaussian import Gaussian
from tune_vae.science.networks.mlp import Mlp
from tune_vae.science.schedules.cyclical import Cyclical
from tune_vae.science.schedules.linear import Linear
from tune_vae.science.sigmas.fixed import Fixed
from tune_vae.science.sigmas.optimal import Optimal
from tune_vae.science.sigmas.shared import Shared
from tune_vae.science.units import bits_per_dim
from tune_vae.training.trainer import Member, Trainer, build_vae

State = Mapping[str, object]


def train(trainer: Trainer) -> list[list[EpochReport]]:
    return list(trainer)


def curve(one: Member, data: Splits, **settings: object) -> list[EpochReport]:
    """The reports of one member trained alone, without the wall time."""
    return [replace(reports[0], seconds=0.0) for reports in Trainer([one], data, **settings)]


def silent(one: Member, data: Splits) -> State:
    """The state of a member whose weights are all 0, so that its decoder ignores the latent."""
    state = Trainer([one], data).state(one.trial)
    return state | {"theta": torch.zeros_like(state["theta"])}


def test_reports_tell_epoch_step_and_weights(few_digits: Splits) -> None:
    one = member(7, epochs=4, beta=2.0, schedule=Linear(warmup=0.5), lr=1e-3)
    reports = curve(one, few_digits)
    assert [report.trial for report in reports] == [7] * 4
    assert [report.epoch for report in reports] == [1, 2, 3, 4]
    assert [report.step for report in reports] == [8, 16, 24, 32]
    assert [report.kl_weight for report in reports] == [0.5, 1.0, 1.0, 1.0]
    assert [report.kl_weight_low for report in reports] == pytest.approx([1 / 16, 9 / 16, 1, 1])
    assert [report.beta for report in reports] == [1.0, 2.0, 2.0, 2.0]
    assert all(report.lr == 1e-3 for report in reports)


def test_lowest_weight_of_an_epoch_is_told_when_a_cycle_begins_within(
    few_digits: Splits,
) -> None:
    one = member(epochs=3, schedule=Cyclical(cycles=2, ramp=0.25))
    middle = curve(one, few_digits)[1]
    assert middle.kl_weight_low == 0
    assert middle.kl_weight == 1


def test_numbers_of_a_report_agree_with_each_other(few_digits: Splits) -> None:
    for report in curve(member(epochs=3), few_digits):
        assert report.rate_nats == pytest.approx(sum(report.rate_per_latent_nats))
        assert report.neg_elbo == pytest.approx(report.rate_nats + report.distortion_nats)
        assert len(report.rate_per_latent_nats) == 4
        assert 0 <= report.active_units <= 4
        assert report.finite
        assert report.skipped == 0
        assert report.sigma == pytest.approx(0.2)
        # The rate alone is a part of the bits, and a mass costs something.
        assert report.bits_per_dim > bits_per_dim(report.rate_nats, 64)
        assert report.bits_per_dim_calibrated > bits_per_dim(report.rate_nats, 64)


def test_training_teaches(few_digits: Splits) -> None:
    first, *_, last = curve(member(epochs=30), few_digits)
    assert last.neg_elbo < first.neg_elbo
    assert last.bits_per_dim < first.bits_per_dim
    assert last.mse < 0.75 * first.mse
    assert last.rate_nats > 1
    assert last.active_units >= 1


def test_model_that_says_nothing_costs_what_a_uniform_guess_costs(few_digits: Splits) -> None:
    """Rate 0 and a flat density: 4 bits a value, and one more at either end of the scale."""
    one = member(likelihood=ContinuousBernoulli(), sigma=None)
    trainer = Trainer([one], few_digits, resume={0: silent(one, few_digits)})
    numbers, rates = trainer.evaluate()
    distortion, mass, calibrated, mse, _, active = numbers[0].tolist()
    x = scale(few_digits.validation, 17)
    ends = ((x == 0) | (x == 1)).double().mean().item()
    assert bits_per_dim(mass, 64) == pytest.approx(4 + ends)
    assert bits_per_dim(calibrated, 64) < 4 + ends
    assert mse == pytest.approx((x - 0.5).square().mean().item(), rel=1e-5)
    assert distortion == 0
    assert active == 0
    assert not rates.any()


@pytest.mark.parametrize(
    ("likelihood", "has_bits"),
    [(Gaussian(), True), (ContinuousBernoulli(), True), (Bernoulli(), False)],
    ids=repr,
)
def test_improper_likelihood_has_no_bits_but_calibrated_ones(
    few_digits: Splits, likelihood: object, has_bits: bool
) -> None:
    (report,) = curve(member(likelihood=likelihood, epochs=1), few_digits)
    assert math.isfinite(report.bits_per_dim) == has_bits
    assert math.isfinite(report.bits_per_dim_calibrated)
    assert math.isnan(report.sigma) != isinstance(likelihood, Gaussian)


def test_validation_is_scored_at_beta_1_whatever_training_weighs(few_digits: Splits) -> None:
    """With learning rate 0 nothing but beta differs, and beta is not in the scores."""
    heavy, light = (
        curve(member(lr=0.0, beta=beta, epochs=1), few_digits)[0] for beta in (100.0, 0.01)
    )
    assert replace(heavy, beta=0.0, grad_norm=0.0) == replace(light, beta=0.0, grad_norm=0.0)


def test_validation_noise_is_the_same_for_every_trial(few_digits: Splits) -> None:
    """Two trials of the same weights and different seeds have the same scores."""
    weights = Trainer([member(0, seed=0)], few_digits).state(0)
    pack = [member(0, seed=0), member(1, seed=1)]
    numbers, rates = Trainer(pack, few_digits, resume={0: weights, 1: weights}).evaluate()
    assert torch.equal(numbers[0], numbers[1])
    assert torch.equal(rates[0], rates[1])


def test_model_as_it_stands_scores_what_the_last_report_said(few_digits: Splits) -> None:
    trainer = Trainer([member(trial, epochs=1) for trial in range(2)], few_digits)
    (reports,) = train(trainer)
    for report, scores in zip(reports, trainer.scores(), strict=True):
        assert set(scores) == set(OBJECTIVES) - {"sample_distance", "probe_error"}
        assert {name: report.value(name) for name in scores} == scores


def test_validation_repeats_itself_and_leaves_the_model_alone(few_digits: Splits) -> None:
    trainer = Trainer([member(sigma=Optimal(), epochs=2)], few_digits)
    next(iter(trainer))
    before = trainer.state(0)
    first, again = trainer.evaluate(), trainer.evaluate()
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    after = trainer.state(0)
    assert torch.equal(before["theta"], after["theta"])
    for name, value in before["buffers"].items():
        assert torch.equal(value, after["buffers"][name])


def test_validation_in_chunks_is_the_mean_over_all_images(digits: Splits) -> None:
    """More images than are scored at once, against the mean of two halves of equal size.

    The halves are unlike, so a scale that were fitted to what it scores would show.
    """
    digit, negative = digits.train[:600], 16 - digits.train[600:1200]
    one = member(likelihood=ContinuousBernoulli(), sigma=None)

    def masses(validation: torch.Tensor) -> torch.Tensor:
        data = replace(digits, validation=validation, labels=None)
        numbers, _ = Trainer([one], data, resume={0: silent(one, data)}).evaluate()
        return numbers[0, 1:3]

    halves = (masses(digit) + masses(negative)) / 2
    torch.testing.assert_close(masses(torch.cat([digit, negative])), halves)


def test_every_image_is_seen_once_an_epoch_whatever_seed_and_epoch(few_digits: Splits) -> None:
    """A silent member without a learning rate measures the mean distortion of what it sees."""
    x = scale(few_digits.train, 17).double()
    exact = 0.5 * (x - 0.5).square().div(0.2**2).flatten(1).sum(1)
    exact += 64 * (math.log(0.2) + 0.5 * math.log(2 * math.pi))
    for seed in (0, 1):
        one = member(seed=seed, lr=0.0, epochs=3)
        resume = {0: silent(one, few_digits)}
        for report in curve(one, few_digits, resume=resume):
            assert report.train_distortion_nats == pytest.approx(exact.mean().item(), rel=1e-5)


def test_order_of_the_images_depends_on_seed_and_epoch(few_digits: Splits) -> None:
    """A batch of 200 of 256 leaves out others each time, which moves the mean distortion."""
    seen = {
        (seed, report.epoch): report.train_distortion_nats
        for seed in (0, 1)
        for one in [member(seed=seed, lr=0.0, epochs=3, batch_size=200)]
        for report in curve(one, few_digits, resume={0: silent(one, few_digits)})
    }
    assert len(seen) == 6
    assert len(set(seen.values())) == 6


def test_same_seed_gives_the_same_curve_and_another_seed_another(few_digits: Splits) -> None:
    one = member(epochs=2)
    assert curve(one, few_digits) == curve(one, few_digits)
    other = curve(replace(one, seed=1), few_digits)
    assert other[-1].neg_elbo != curve(one, few_digits)[-1].neg_elbo


def test_global_generator_neither_matters_nor_moves(few_digits: Splits) -> None:
    torch.manual_seed(1)
    one = curve(member(epochs=1), few_digits)
    torch.manual_seed(2)
    before = torch.random.get_rng_state()
    assert curve(member(epochs=1), few_digits) == one
    assert torch.equal(torch.random.get_rng_state(), before)


def test_noise_of_a_long_epoch_does_not_repeat_itself(digits: Splits) -> None:
    """Noise is drawn for 64 steps at once. Where all images are one image and nothing is
    learned, only noise can make the mean over 128 steps differ from that over the first 64.
    """

    def mean_distortion(steps: int) -> float:
        data = replace(digits, train=digits.train[:1].repeat(steps, 1, 1, 1), labels=None)
        (report,) = curve(member(lr=0.0, epochs=1, batch_size=1), data)
        assert report.step == steps
        return report.train_distortion_nats

    assert mean_distortion(128) != pytest.approx(mean_distortion(64), rel=1e-5)


@pytest.mark.parametrize(
    "sigma", [Fixed(sigma=0.2), Shared(), Shared(start=0.01), Optimal()], ids=repr
)
@pytest.mark.parametrize("lr", [1e3, 1e6, 1e30])
def test_absurd_learning_rate_is_told_and_leaves_finite_weights(
    few_digits: Splits, sigma: object, lr: float
) -> None:
    """Told as a lost loss, as left-out steps or as a loss far worse than at the start."""
    sane = curve(member(sigma=sigma, epochs=1), few_digits)[0]
    trainer = Trainer([member(sigma=sigma, lr=lr, epochs=2)], few_digits)
    for (report,) in trainer:
        bad = not report.finite or report.skipped or not report.neg_elbo < sane.neg_elbo
        assert bad
        assert trainer.state(0)["theta"].isfinite().all()


def test_lost_member_stays_lost_in_all_later_reports(few_digits: Splits) -> None:
    reports = curve(member(sigma=Fixed(sigma=1e-25), epochs=3), few_digits)
    assert [report.finite for report in reports] == [False] * 3


def test_gradient_clipping_keeps_the_reported_norm(few_digits: Splits) -> None:
    free, clipped = (
        curve(member(grad_clip=clip, epochs=1), few_digits)[0] for clip in (math.inf, 1.0)
    )
    assert free.grad_norm > 1
    assert clipped.grad_norm > 1
    assert free.neg_elbo != clipped.neg_elbo


def test_weight_decay_shrinks_the_weights(few_digits: Splits) -> None:
    def length(weight_decay: float) -> float:
        trainer = Trainer([member(weight_decay=weight_decay, epochs=3)], few_digits)
        train(trainer)
        return trainer.state(0)["theta"].norm().item()

    assert length(3.0) < 0.9 * length(0.0)


def test_members_leave_when_their_epochs_are_done(few_digits: Splits) -> None:
    pack = [member(0, epochs=1), member(1, epochs=3), member(2, epochs=2)]
    trainer = Trainer(pack, few_digits)
    assert trainer.living == [0, 1, 2]
    told = [[report.trial for report in reports] for reports in trainer]
    assert told == [[0, 1, 2], [1, 2], [1]]
    assert trainer.living == []
    assert train(trainer) == []


def test_retired_member_can_still_be_saved_and_reports_no_more(few_digits: Splits) -> None:
    trainer = Trainer([member(trial, epochs=4) for trial in range(3)], few_digits)
    told = []
    for reports in trainer:
        told.append([report.trial for report in reports])
        if len(told) == 2:
            trainer.retire(1)
            assert trainer.living == [0, 2]
            assert trainer.state(1)["epoch"] == 2
    assert told == [[0, 1, 2], [0, 1, 2], [0, 2], [0, 2]]


def test_pack_whose_members_are_all_retired_is_done(few_digits: Splits) -> None:
    trainer = Trainer([member(0), member(1)], few_digits)
    turns = iter(trainer)
    next(turns)
    trainer.retire(0)
    trainer.retire(1)
    assert list(turns) == []


def test_state_rebuilds_the_model(few_digits: Splits) -> None:
    one = member(3, config="beta: 1")
    state = Trainer([one], few_digits).state(3)
    assert state["trial"] == 3
    assert state["seed"] == 3
    assert state["epoch"] == 0
    assert state["config"] == "beta: 1"
    vae = build_vae(one, few_digits.shape)
    expected = torch.cat([p.detach().flatten() for p in vae.parameters()])
    assert torch.equal(state["theta"], expected)


def test_members_of_one_seed_begin_alike_and_of_two_seeds_do_not(few_digits: Splits) -> None:
    trainer = Trainer([member(0, seed=5), member(1, seed=5), member(2, seed=6)], few_digits)
    theta = [trainer.state(trial)["theta"] for trial in range(3)]
    assert torch.equal(theta[0], theta[1])
    assert not torch.equal(theta[0], theta[2])


def test_batch_larger_than_the_data_is_refused(few_digits: Splits) -> None:
    with pytest.raises(DataError, match="batch_size 257 exceeds the 256 training images"):
        Trainer([member(batch_size=257)], few_digits)
    assert curve(member(batch_size=256, epochs=1), few_digits)[0].step == 1


@pytest.mark.parametrize(
    "change",
    [
        {"network": Mlp(hidden=(33,))},
        {"latent_dim": 5},
        {"likelihood": Gaussian(link="identity")},
        {"sigma": Optimal()},
        {"batch_size": 64},
    ],
    ids=str,
)
def test_members_of_different_graphs_are_refused(
    few_digits: Splits, change: dict[str, object]
) -> None:
    with pytest.raises(ValueError, match="one pack key"):
        Trainer([member(0), member(1, **change)], few_digits)


def test_pack_of_nobody_is_refused(few_digits: Splits) -> None:
    with pytest.raises(ValueError, match="one pack key"):
        Trainer([], few_digits)


@pytest.mark.parametrize(
    "change",
    [{"seed": 9}, {"beta": 9.0}, {"lr": 9.0}, {"epochs": 9}, {"sigma": Fixed(sigma=9.0)}],
    ids=str,
)
def test_members_of_one_graph_share_a_pack(change: dict[str, object]) -> None:
    assert member(0).pack_key() == member(1, **change).pack_key()


@pytest.mark.parametrize(
    "stranger",
    [
        member(network=Mlp(hidden=(33,))),
        member(latent_dim=5),
        member(sigma=Optimal()),
        member(sigma=Shared()),
        member(likelihood=ContinuousBernoulli(), sigma=Optimal(), latent_dim=5),
    ],
    ids=["network", "latents", "buffers", "learned scale", "likelihood"],
)
def test_checkpoint_of_another_model_is_refused(few_digits: Splits, stranger: Member) -> None:
    state = Trainer([stranger], few_digits).state(0)
    with pytest.raises(CheckpointError, match="the checkpoint of trial 0 holds another model"):
        Trainer([member(0)], few_digits, resume={0: state})


def test_checkpoints_of_other_trials_are_left_alone(few_digits: Splits) -> None:
    stranger = Trainer([member(8)], few_digits).state(8)
    trainer = Trainer([member(0)], few_digits, resume={8: stranger})
    assert torch.equal(
        trainer.state(0)["theta"], Trainer([member(0)], few_digits).state(0)["theta"]
    )


def test_steps_at_the_full_weight_and_the_lowest_weight_ahead_follow_from_the_schedule(
    few_digits: Splits,
) -> None:
    """Two cycles of 16 steps that climb for 8; an epoch is 8 steps, full from 95 % on.

    The last step of epoch 2 is the first of the next cycle.
    """
    one = member(epochs=4, schedule=Cyclical(cycles=2, ramp=0.5))
    reports = curve(one, few_digits)
    assert [report.full_steps for report in reports] == [1, 7, 1, 8]
    assert [report.kl_weight_ahead for report in reports] == [0, 0.125, 1, 1]


def test_step_of_the_first_loss_that_is_not_finite_is_told_once(few_digits: Splits) -> None:
    """The first update of 1e30 throws the weights away; the second loss shows it."""
    reports = curve(member(epochs=2, lr=1e30), few_digits)
    assert [report.lost_step for report in reports] == [2, None]
    assert [report.finite for report in reports] == [False, False]
    assert [report.lost_step for report in curve(member(epochs=2), few_digits)] == [None] * 2


def test_signs_of_health_of_a_pack_are_those_of_its_members(few_digits: Splits) -> None:
    pack = [member(trial, beta=10.0**trial) for trial in range(3)]
    together = Trainer(pack, few_digits).signals()
    for k, one in enumerate(pack):
        alone = Trainer([one], few_digits).signals()
        torch.testing.assert_close(together[k : k + 1], alone, rtol=1e-4, atol=1e-6)
    assert together.shape == (3, 6)
