"""Every verdict provoked in a real training, beside healthy trials that look alike for a while.

An epoch is 32 steps. With sigma = 0.2 silence is an equilibrium above beta = 18 on these digits
(spectral peak times mean squared error over sigma squared).
"""

from collections.abc import Mapping

import pytest
import torch

from tests.factories import member
from tune_vae.data import Splits
from tune_vae.science.health import Kind, Limits, Verdict, judge
from tune_vae.science.history import EpochReport, History
from tune_vae.science.networks.mlp import Mlp
from tune_vae.science.schedules.cyclical import Cyclical
from tune_vae.science.schedules.linear import Linear
from tune_vae.science.sigmas.optimal import Optimal
from tune_vae.training.trainer import Member, Trainer

EPOCHS, BATCH = 18, 16

TRIALS: Mapping[str, dict[str, object]] = {
    "healthy": {"beta": 1.0},
    "too heavy from the start": {"beta": 320.0},
    "too heavy after a warm-up": {"beta": 60.0, "schedule": Linear(warmup=0.8)},
    "falling rate under a warm-up": {"beta": 6.0, "schedule": Linear(warmup=0.6)},
    "cycles": {"beta": 10.0, "schedule": Cyclical(cycles=3, ramp=0.5)},
    "late bloomer": {"beta": 10.0, "init_scale": 0.3},
    "back from silence": {"beta": 9.0},
    "not a number": {"lr": 1e30},
    "absurd learning rate": {"lr": 10.0, "beta": 0.01},
    "hardly any learning rate": {"lr": 1e-6},
}
"""All of one pack, so that they train as one program."""

Told = list[tuple[EpochReport, Verdict]]


def watched(one: Mapping[str, Member], data: Splits, limits: Limits) -> dict[str, Told]:
    """Every report of each trial, none of them stopped, and the verdict of its epoch."""
    names = {trial.trial: name for name, trial in one.items()}
    histories = {
        name: History(trial.epochs, data.values, data.levels, "bits_per_dim")
        for name, trial in one.items()
    }
    told: dict[str, Told] = {name: [] for name in one}
    for reports in Trainer(list(one.values()), data):
        for report in reports:
            name = names[report.trial]
            told[name].append((report, judge(histories[name].add(report), limits)))
    return told


@pytest.fixture(scope="module")
def told(digits: Splits) -> dict[str, Told]:
    data = Splits(
        train=digits.train[:512],
        validation=digits.validation[:128],
        test=digits.test[:1],
        levels=digits.levels,
    )
    trials = {
        name: member(number, **({"epochs": EPOCHS, "batch_size": BATCH} | changes))
        for number, (name, changes) in enumerate(TRIALS.items())
    }
    return watched(trials, data, Limits())


def kinds(told: Told) -> list[Kind]:
    return [verdict.kind for _, verdict in told]


def test_sound_training_is_healthy(told: dict[str, Told]) -> None:
    assert set(kinds(told["healthy"])) == {Kind.HEALTHY}


def test_latents_that_are_too_dear_from_the_start_never_form(told: dict[str, Told]) -> None:
    one = kinds(told["too heavy from the start"])
    # Far beyond the collapse point, half of the 250 steps will do: four epochs of 32.
    assert one == [Kind.WARMING_UP] * 3 + [Kind.NEVER_FORMED] * (EPOCHS - 3)
    report, verdict = told["too heavy from the start"][-1]
    assert report.decoder_sensitivity is not None
    assert report.decoder_sensitivity < 0.05
    assert "beta_norm 20 is too much: try at most 2, or a warm-up" in verdict.reason


def test_latents_that_form_under_a_warm_up_and_die_have_collapsed(told: dict[str, Told]) -> None:
    one = told["too heavy after a warm-up"]
    assert one[0][0].rate_nats > 1
    first = kinds(one).index(Kind.COLLAPSED)
    # The warm-up lasts to epoch 14, and the end is known before.
    assert 8 <= first < 14
    assert set(kinds(one)) == {Kind.WARMING_UP, Kind.COLLAPSED}
    assert "is above the collapse point; the rate was last heard at" in one[first][1].reason


def test_rate_that_falls_under_a_warm_up_and_stays_is_left_alone(told: dict[str, Told]) -> None:
    one = told["falling rate under a warm-up"]
    rates = [report.rate_nats for report, _ in one]
    assert rates[0] > 5 * rates[-1]
    assert kinds(one) == [Kind.WARMING_UP] * 11 + [Kind.HEALTHY] * (EPOCHS - 11)


def test_cycles_that_fall_silent_and_wake_are_left_alone(told: dict[str, Told]) -> None:
    one = told["cycles"]
    assert min(report.rate_nats for report, _ in one) < 0.05
    assert one[-1][0].rate_nats > 0.2
    assert not any(kind.fatal for kind in kinds(one))
    low = [kind for report, verdict in one if report.kl_weight < 0.9 for kind in [verdict.kind]]
    assert set(low) == {Kind.WARMING_UP}


@pytest.mark.parametrize("name", ["late bloomer", "back from silence"])
def test_latents_that_were_silent_for_long_and_wake_are_left_alone(
    told: dict[str, Told], name: str
) -> None:
    one = told[name]
    silent = sum(report.rate_nats < Limits().rate_nats for report, _ in one) * 32
    assert silent >= 100
    assert one[-1][0].rate_nats > 0.3
    assert not any(kind.fatal for kind in kinds(one))
    assert Kind.RECOVERING in kinds(one)
    assert kinds(one)[-1] is Kind.HEALTHY


def test_loss_that_is_not_a_number_has_diverged_at_a_step(told: dict[str, Told]) -> None:
    one = told["not a number"]
    assert set(kinds(one)) == {Kind.DIVERGED}
    assert one[0][1].reason.startswith("loss not finite at step 2; learning rate 1e+30")


def test_absurd_learning_rate_explodes_and_stays_finite(told: dict[str, Told]) -> None:
    one = told["absurd learning rate"]
    assert all(report.finite for report, _ in one)
    first = next(kind for kind in kinds(one) if kind.fatal)
    assert first is Kind.EXPLODING


def test_learning_rate_that_moves_nothing_stalls(told: dict[str, Told]) -> None:
    one = told["hardly any learning rate"]
    assert kinds(one)[:-1] == [Kind.WARMING_UP] * 8 + [Kind.STALLED] * (EPOCHS - 9)
    assert "Another learning rate" in one[-2][1].reason
    # Run to its end nevertheless, it is not told that its beta_norm was wrong.
    assert one[-1][1].reason.endswith("more epochs, or another lr.")


def test_more_latents_than_the_rate_can_fill_collapse_in_part(digits: Splits) -> None:
    one = member(latent_dim=16, beta=5.0, epochs=4, batch_size=16)
    data = Splits(digits.train[:512], digits.validation[:128], digits.test[:1], levels=17)
    verdict = watched({"wide": one}, data, Limits())["wide"][-1][1]
    assert verdict.kind is Kind.PARTIALLY_COLLAPSED
    assert "of 16 latents" in verdict.reason


def two_factors(count: int, generator: torch.Generator) -> torch.Tensor:
    """Images of 17 levels that two numbers tell: how steep they are along either axis."""
    down, across = torch.rand(2, count, 1, 1, generator=generator)
    ramp = torch.arange(8.0) / 7
    image = (down * ramp[:, None] + across * (1 - ramp)) / 2
    return (16 * image).round().to(torch.uint8)[:, None]


def test_small_latent_of_data_with_few_factors_is_healthy() -> None:
    generator = torch.Generator().manual_seed(0)
    train, validation, test = (two_factors(count, generator) for count in (512, 128, 1))
    data = Splits(train, validation, test, levels=17)
    one = member(latent_dim=2, beta=0.2, epochs=12, batch_size=16)
    verdict = watched({"small": one}, data, Limits())["small"][-1][1]
    assert verdict.kind is Kind.HEALTHY
    assert "2/2 active units" in verdict.reason


def test_few_images_and_many_epochs_overfit(digits: Splits) -> None:
    one = member(
        network=Mlp(hidden=(64,)),
        latent_dim=8,
        sigma=Optimal(),
        lr=1e-2,
        epochs=60,
        batch_size=8,
    )
    data = Splits(digits.train[:64], digits.validation[:128], digits.test[:1], levels=17)
    told = watched({"few": one}, data, Limits())["few"]
    assert not any(kind.fatal for kind in kinds(told))
    assert Kind.OVERFITTING not in kinds(told)[:30]
    assert kinds(told)[-1] is Kind.OVERFITTING
    assert told[-1][0].bits_per_dim > min(report.bits_per_dim for report, _ in told) + 0.5
