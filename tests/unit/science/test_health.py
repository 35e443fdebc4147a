"""Verdicts on hand-made histories. An epoch is 50 steps; a collapse takes 250 by default."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.factories import STEPS_PER_EPOCH, history, report
from tune_vae.science.health import Kind, Limits, Verdict, judge
from tune_vae.science.history import EpochReport, Rollback


def verdicts(
    make: Callable[[int], EpochReport],
    epochs: int = 19,
    limits: Limits = Limits(),  # noqa: B008
) -> list[Verdict]:
    """The verdict after each epoch of a trial of 20."""
    reports = [make(epoch) for epoch in range(1, epochs + 1)]
    return [judge(history(reports[: epoch + 1]), limits) for epoch in range(epochs)]


def kinds(make: Callable[[int], EpochReport], epochs: int = 19) -> list[Kind]:
    return [verdict.kind for verdict in verdicts(make, epochs)]


@pytest.mark.parametrize("kind", Kind)
def test_what_is_no_final_loss_goes_on(kind: Kind) -> None:
    goes_on = ("warming_up", "healthy", "partially_collapsed", "recovering", "overfitting")
    assert kind.fatal == (kind not in goes_on)


@pytest.mark.parametrize("kind", Kind)
def test_settings_are_blamed_for_what_training_did_and_not_for_the_rest(kind: Kind) -> None:
    blamed = ("collapsed", "never_formed", "stalled", "exploding", "diverged")
    assert kind.infeasible == (kind in blamed)


def test_used_latents_are_healthy_and_the_best_epoch_is_named() -> None:
    verdict = verdicts(lambda epoch: report(epoch, bits_per_dim=2 + abs(epoch - 3) / 8), 5)[-1]
    assert verdict == Verdict(
        Kind.HEALTHY, "2.000 bits per dim in epoch 3; rate 8 nats, 4/4 active units"
    )


def test_improper_likelihood_is_reported_by_its_calibrated_bits() -> None:
    make = report(1, bits_per_dim=math.nan, bits_per_dim_calibrated=4.125)
    assert judge(history([make]), Limits()).reason.startswith("4.125 bits per dim in epoch 1")


def test_trial_under_warm_up_is_warming_up_whatever_its_rate() -> None:
    for rate in (0.0, 8.0, 500.0):
        verdict = judge(history([report(1, kl_weight=0.25, rate_nats=rate)]), Limits())
        assert verdict.kind is Kind.WARMING_UP
        assert "KL weight 0.25 of 1 in epoch 1" in verdict.reason
        assert f"rate {rate:.3g} nats" in verdict.reason


def test_falling_rate_under_a_warm_up_is_left_alone() -> None:
    """The encoder gives up nats as the KL weight grows; that is the schedule at work."""
    trial = kinds(
        lambda epoch: report(epoch, kl_weight=min(1, epoch / 15), rate_nats=300 * 0.75**epoch)
    )
    assert trial == [Kind.WARMING_UP] * 14 + [Kind.HEALTHY] * 5


def test_dead_rate_under_a_long_warm_up_is_not_yet_a_collapse() -> None:
    assert set(kinds(lambda epoch: report(epoch, kl_weight=epoch / 20, rate_nats=0.0))) == {
        Kind.WARMING_UP
    }


def test_cycles_must_fall_silent_more_than_twice() -> None:
    """Two epochs of every four dip below the full weight, and the rate dies in the others.

    The proof takes 250 steps, of which a cycle gives 100; no low phase is ever the end.
    """

    def make(epoch: int) -> EpochReport:
        low = epoch % 4 in (1, 2)
        return report(epoch, kl_weight=0.5 if low else 1.0, rate_nats=50.0 if low else 0.01)

    assert kinds(make) == [Kind.WARMING_UP] * 10 + [
        Kind.COLLAPSED if epoch % 4 in (3, 0) else Kind.WARMING_UP for epoch in range(11, 20)
    ]


def test_epoch_that_only_ends_at_the_full_weight_starts_no_count() -> None:
    trial = kinds(
        lambda epoch: report(epoch, kl_weight=1.0, kl_weight_low=0.9, rate_nats=0.0), epochs=19
    )
    assert set(trial) == {Kind.WARMING_UP}


def test_late_bloomer_is_left_alone() -> None:
    """Near 0 for 200 steps, as seen in healthy trials, and rising then."""
    trial = kinds(lambda epoch: report(epoch, rate_nats=0.01 if epoch <= 4 else epoch - 4.0))
    assert trial == [Kind.WARMING_UP] * 4 + [Kind.HEALTHY] * 15


def test_count_begins_anew_when_the_latents_were_heard_in_between() -> None:
    trial = kinds(lambda epoch: report(epoch, rate_nats=0.2 if epoch == 4 else 0.01), epochs=9)
    assert trial == [Kind.WARMING_UP] * 3 + [Kind.HEALTHY] + [Kind.WARMING_UP] * 4 + [
        Kind.COLLAPSED
    ]


def test_partly_used_latents_are_healthy() -> None:
    trial = kinds(lambda epoch: report(epoch, rate_nats=0.1, active_units=0))
    assert set(trial) == {Kind.HEALTHY}


@pytest.mark.parametrize("steps", [1, 50, 51, 250, 600])
def test_dead_rate_is_a_collapse_after_the_stated_steps_and_not_before(steps: int) -> None:
    trial = verdicts(lambda epoch: report(epoch, rate_nats=0.01), limits=Limits(steps=steps))
    first = math.ceil(steps / STEPS_PER_EPOCH)
    assert [verdict.kind for verdict in trial] == (
        [Kind.WARMING_UP] * (first - 1) + [Kind.NEVER_FORMED] * (20 - first)
    )


def test_steps_are_counted_from_the_full_weight() -> None:
    trial = kinds(lambda epoch: report(epoch, rate_nats=0.0, kl_weight=float(epoch > 8)))
    assert trial == [Kind.WARMING_UP] * 12 + [Kind.NEVER_FORMED] * 7


def test_reason_of_a_collapse_names_its_numbers_and_a_remedy() -> None:
    told = {"mutual_information_nats": 0.011, "mutual_information_error_nats": 0.024}
    make = [
        report(epoch, rate_nats=0.004, active_units=0, beta=32.0, **told) for epoch in range(6)
    ]
    verdict = judge(
        history(
            [
                report(1, beta=32.0),
                *(replace(r, epoch=r.epoch + 2, step=100 + 50 * r.epoch) for r in make),
            ]
        ),
        Limits(),
    )
    assert verdict.kind is Kind.COLLAPSED
    assert "latents unused: rate 0.004 nats, mutual information 0.01 ± 0.02 nats" in verdict.reason
    assert "after 300 steps, 0/4 active units" in verdict.reason
    # beta_norm = 32 · 4 / 64.
    assert verdict.reason.endswith("beta_norm 2 is too much: try at most 0.2, or a warm-up.")


def test_verdict_at_the_very_first_step_of_a_cycle_names_the_beta_norm_of_the_others() -> None:
    def make(epoch: int) -> EpochReport:
        weight = 0.0 if epoch % 2 == 0 else 1.0
        return report(
            epoch,
            rate_nats=0.001,
            kl_weight=weight,
            beta=32 * weight,
            kl_weight_ahead=0.0,
            full_steps=25,
        )

    verdict = next(verdict for verdict in verdicts(make)[1::2] if verdict.kind.fatal)
    assert "beta_norm 2 is too much" in verdict.reason


def test_remedy_names_the_weight_at_which_the_rate_was_last_heard() -> None:
    """It dies on the climb between weights 0.3 and 0.4 of beta_norm 2."""

    def make(epoch: int) -> EpochReport:
        weight = min(1.0, epoch / 10)
        rate = 1.0 if epoch <= 3 else 0.001
        return report(epoch, rate_nats=rate, kl_weight=weight, beta=32 * weight)

    verdict = verdicts(make)[-1]
    assert verdict.kind is Kind.COLLAPSED
    assert "the rate was last heard at 0.6: try at most half" in verdict.reason


def test_warning_before_a_collapse_counts_the_steps() -> None:
    verdict = verdicts(lambda epoch: report(epoch, rate_nats=0.01), epochs=3)[-1]
    assert verdict.kind is Kind.WARMING_UP
    assert "rate 0.01 nats; 150 of 250 steps" in verdict.reason


def test_scale_that_still_moves_suspends_the_judgement() -> None:
    """log sigma falls by 0.025 per 100 steps until epoch 12, where 0.02 count as settled."""

    def make(epoch: int) -> EpochReport:
        return report(epoch, rate_nats=0.0, sigma=math.exp(-0.0125 * min(epoch, 12)))

    assert kinds(make) == [Kind.WARMING_UP] * 12 + [Kind.NEVER_FORMED] * 7


def test_scale_that_creeps_is_settled() -> None:
    trial = kinds(lambda epoch: report(epoch, rate_nats=0.0, sigma=math.exp(-0.0075 * epoch)))
    assert trial == [Kind.WARMING_UP] * 4 + [Kind.NEVER_FORMED] * 15


@pytest.mark.parametrize(("fall", "kind"), [(0.06, "never_formed"), (0.1, "warming_up")])
def test_fall_of_the_scale_is_measured_per_100_steps_also_in_long_epochs(
    fall: float, kind: Kind
) -> None:
    """Epochs of 400 steps, in which log sigma may move by 0.08."""
    reports = [
        report(epoch, step=400 * epoch, rate_nats=0.0, sigma=math.exp(-fall * epoch))
        for epoch in range(1, 4)
    ]
    assert judge(history(reports), Limits()).kind == kind


def test_scale_is_not_settled_before_it_was_watched_for_100_steps() -> None:
    limits = Limits(steps=1)
    trial = verdicts(lambda epoch: report(epoch, rate_nats=0.0, sigma=0.5), limits=limits)
    assert [verdict.kind for verdict in trial[:3]] == [Kind.WARMING_UP] * 2 + [Kind.NEVER_FORMED]


@pytest.mark.parametrize("sigma", [math.nan, 0.5])
def test_finished_trial_with_a_dead_rate_is_collapsed_however_short(sigma: float) -> None:
    reports = [report(1, rate_nats=5.0, sigma=sigma), report(2, rate_nats=0.01, sigma=sigma / 2)]
    assert judge(history(reports, epochs=3), Limits()).kind is Kind.WARMING_UP
    verdict = judge(history(reports, epochs=2), Limits())
    assert verdict.kind is Kind.COLLAPSED
    assert "after 50 steps" in verdict.reason


def test_limit_of_the_rate_is_the_study_word() -> None:
    trial = history([report(epoch, rate_nats=0.5) for epoch in range(1, 8)])
    assert judge(trial, Limits()).kind is Kind.HEALTHY
    assert judge(trial, Limits(rate_nats=1.0)).kind is Kind.NEVER_FORMED


@pytest.mark.parametrize(
    "lost", [{"finite": False}, {"neg_elbo": math.nan}, {"neg_elbo": math.inf}], ids=str
)
def test_loss_that_is_not_finite_has_diverged(lost: dict[str, float]) -> None:
    reports = [report(1, rate_nats=7.25), report(2, lr=0.5, **lost)]
    verdict = judge(history(reports), Limits())
    assert verdict.kind is Kind.DIVERGED
    assert "loss not finite in epoch 2 (rate 7.25 nats the epoch before)" in verdict.reason
    assert "learning rate 0.5" in verdict.reason
    assert verdict.reason.endswith("A lower learning rate, or stronger clipping.")


@pytest.mark.parametrize("lost", [{"finite": False}, {"skipped": STEPS_PER_EPOCH}], ids=str)
def test_divergence_after_a_rollback_says_that_there_was_one(lost: dict[str, float]) -> None:
    back = Rollback(step=153, epoch=4, resumed=3, lr_before=0.1, lr_after=0.05)
    once = judge(history([report(1, **lost)], rollbacks=[back]), Limits())
    assert once.kind is Kind.DIVERGED
    assert once.reason.endswith(
        "clipping. Rolled back already: lost at step 153 in epoch 4, lr 0.1 → 0.05, went on from "
        "epoch 3."
    )
    assert judge(history([report(1)], rollbacks=[back]), Limits()).kind is Kind.HEALTHY


def test_divergence_is_told_in_the_first_epoch_and_under_warm_up() -> None:
    verdict = judge(history([report(1, finite=False, kl_weight=0.1)]), Limits())
    assert verdict.kind is Kind.DIVERGED
    assert "loss not finite in epoch 1; learning rate 0.001" in verdict.reason


def test_tiny_sigma_is_named_as_the_likely_cause() -> None:
    verdict = judge(history([report(1, finite=False, sigma=1e-5)]), Limits())
    assert "sigma 1e-05. A larger sigma." in verdict.reason


def test_dead_and_lost_trial_is_told_as_lost() -> None:
    reports = [report(epoch, rate_nats=0.0) for epoch in range(1, 9)]
    lost = report(9, rate_nats=0.0, finite=False)
    assert judge(history([*reports, lost]), Limits()).kind is Kind.DIVERGED


def test_epoch_of_which_every_gradient_was_left_out_has_diverged() -> None:
    def at(skipped: int) -> Verdict:
        return judge(history([report(1), report(2, skipped=skipped)]), Limits())

    assert at(STEPS_PER_EPOCH - 1).kind is Kind.HEALTHY
    assert at(STEPS_PER_EPOCH).kind is Kind.DIVERGED
    assert "gradient not finite in any step of epoch 2" in at(STEPS_PER_EPOCH).reason


def test_far_beyond_a_blind_guess_is_an_explosion() -> None:
    """17 levels cost a blind guess log2(17) = 4.09 bits; the limit is 30 times that."""

    def at(epoch: int, bits: float) -> Verdict:
        reports = [report(e, bits_per_dim_calibrated=bits) for e in range(1, epoch + 1)]
        return judge(history(reports), Limits())

    limit = 30 * math.log2(17)
    assert at(2, limit * 0.99).kind is Kind.HEALTHY
    assert at(1, limit * 1.01).kind is Kind.HEALTHY  # Step 50 of the 100 that are let pass.
    assert at(2, limit * 1.01).kind is Kind.EXPLODING
    assert (
        "124 bits per dim in epoch 2, where a blind guess costs 4.09" in at(2, limit * 1.01).reason
    )


def test_scale_far_below_the_errors_is_no_explosion() -> None:
    """A million bits under sigma = 1e-4, and three under a fitted scale: the model is sound."""
    trial = history([report(epoch, bits_per_dim=1e6, sigma=1e-4) for epoch in range(1, 8)])
    assert judge(trial, Limits()).kind is Kind.HEALTHY


def test_counts_explode_against_their_own_best() -> None:
    reports = [report(1, bits_per_dim=2.0), report(2, bits_per_dim=2.0 * 29)]
    assert judge(history(reports, levels=None), Limits()).kind is Kind.HEALTHY
    reports[1] = report(2, bits_per_dim=2.0 * 31)
    assert judge(history(reports, levels=None), Limits()).kind is Kind.EXPLODING


def blown(epoch: int, **changes: float) -> EpochReport:
    """Six bits per dim where a uniform guess costs 4.09, and worse than one constant image."""
    settings = {"bits_per_dim_calibrated": 6.0, "explained_variance": -1.0}
    return report(epoch, **(settings | changes))


def test_dearer_than_a_guess_and_worse_than_a_constant_explodes_after_the_stated_steps() -> None:
    trial = kinds(lambda epoch: blown(epoch, explained_variance=-1.0 + epoch / 10), epochs=6)
    assert trial == [Kind.WARMING_UP] * 4 + [Kind.EXPLODING] * 2


def test_dear_reconstructions_that_are_good_are_no_explosion() -> None:
    """So is a rate that is nearly free."""
    trial = kinds(lambda epoch: blown(epoch, explained_variance=0.7))
    assert set(trial) == {Kind.HEALTHY}


def test_trial_back_from_an_explosion_is_recovering_for_a_while() -> None:
    trial = kinds(lambda epoch: blown(epoch) if epoch <= 3 else report(epoch), epochs=12)
    assert trial == [Kind.WARMING_UP] * 3 + [Kind.RECOVERING] * 4 + [Kind.HEALTHY] * 5


def test_trial_back_from_silence_is_recovering_for_a_while() -> None:
    def make(epoch: int) -> EpochReport:
        return report(epoch, rate_nats=0.02 if 2 <= epoch <= 4 else 1.0)

    told = verdicts(make, epochs=12)
    assert [verdict.kind for verdict in told] == [
        Kind.HEALTHY,
        *[Kind.WARMING_UP] * 3,
        *[Kind.RECOVERING] * 4,
        *[Kind.HEALTHY] * 4,
    ]
    assert told[4].reason == "rate 1 nats, after 0.02 in epoch 4"


def test_worse_than_a_constant_image_without_progress_is_stalled() -> None:
    """From -1.5 by 0.001 an epoch; 0.1 an epoch would do within the 20 epochs."""

    def slow(pace: float) -> list[Verdict]:
        return verdicts(lambda e: report(e, rate_nats=0.05, explained_variance=-1.5 + pace * e))

    assert [verdict.kind for verdict in slow(0.001)] == (
        [Kind.WARMING_UP] * 5 + [Kind.STALLED] * 14
    )
    assert "explained variance -1.49) after 300 steps" in slow(0.001)[5].reason
    # It reaches the constant image in epoch 13, with its latents silent for long.
    assert [verdict.kind for verdict in slow(0.1)] == (
        [Kind.WARMING_UP] * 12 + [Kind.NEVER_FORMED] * 7
    )


def test_counts_are_not_measured_by_squares() -> None:
    """Their largest values rule every square, so a sound model may explain less than none."""
    reports = [report(epoch, explained_variance=-5.0) for epoch in range(1, 15)]
    assert judge(history(reports, levels=None), Limits()).kind is Kind.HEALTHY


def test_validation_that_worsens_while_training_gains_is_overfitting() -> None:
    def make(epoch: int, gain: float = 0.5) -> EpochReport:
        return report(
            epoch, bits_per_dim=3 + 0.011 * abs(epoch - 4), train_distortion_nats=20 - gain * epoch
        )

    trial = kinds(make, epochs=12)
    # Five epochs of 50 steps and 0.05 bits after epoch 4.
    assert trial == [Kind.HEALTHY] * 8 + [Kind.OVERFITTING] * 4
    assert set(kinds(lambda epoch: make(epoch, gain=-0.5))) == {Kind.HEALTHY}


def test_used_latents_are_counted_and_few_are_told() -> None:
    def verdict(*rates: float) -> Verdict:
        one = report(1, rate_nats=sum(rates), rate_per_latent_nats=rates)
        return judge(history([one]), Limits())

    assert verdict(2.0, 1.0, 0.001, 0.0).kind is Kind.HEALTHY
    assert verdict(2.0, 0.019, 0.001, 0.0).kind is Kind.PARTIALLY_COLLAPSED
    assert "all of it in 1 of 4 latents" in verdict(2.0, 0.019, 0.001, 0.0).reason
    assert verdict(0.5).kind is Kind.HEALTHY


def test_known_climb_lets_silent_steps_count_below_the_full_weight() -> None:
    """What pays nothing at a low weight pays less at a higher one."""

    def make(epoch: int, ahead: float = 1.0) -> EpochReport:
        weight = epoch / 20
        ahead = min(ahead, (epoch + 1) / 20)
        return report(
            epoch, rate_nats=0.001, kl_weight=weight, kl_weight_ahead=ahead, full_steps=0
        )

    assert kinds(make) == [Kind.WARMING_UP] * 4 + [Kind.NEVER_FORMED] * 15
    assert set(kinds(lambda epoch: make(epoch, ahead=0.0))) == {Kind.WARMING_UP}


def test_one_long_cycle_is_not_enough_where_a_lower_weight_is_to_come() -> None:
    """Ten full epochs, two low ones in which the rate wakes, then full for good."""

    def make(epoch: int, after: float) -> EpochReport:
        low = epoch in (11, 12)
        weight, ahead = (0.1, 0.1) if low else (1.0, 0.1 if epoch < 11 else 1.0)
        rate = 5.0 if low else 0.001 if epoch < 11 else after
        full = 0 if low else STEPS_PER_EPOCH
        return report(
            epoch, rate_nats=rate, kl_weight=weight, kl_weight_ahead=ahead, full_steps=full
        )

    alive = kinds(lambda epoch: make(epoch, after=3.0))
    assert not any(kind.fatal for kind in alive)
    dead = kinds(lambda epoch: make(epoch, after=0.001))
    # Half of the proof from the first cycle, the other half from three epochs of the second.
    assert [kind.fatal for kind in dead] == [False] * 14 + [True] * 5


def test_far_beyond_the_collapse_point_half_of_the_steps_and_a_moving_scale_will_do() -> None:
    """A spectral peak of 10: above beta 40 nothing can wake the latents."""

    def make(epoch: int, beta: float) -> EpochReport:
        sigma = math.exp(-0.1 * epoch)
        return report(epoch, rate_nats=0.001, beta=beta, sigma=sigma, mse=0.01, spectral_peak=10.0)

    assert kinds(lambda epoch: make(epoch, beta=41.0), epochs=4) == [
        *[Kind.WARMING_UP] * 2,
        *[Kind.NEVER_FORMED] * 2,
    ]
    assert set(kinds(lambda epoch: make(epoch, beta=39.0))) == {Kind.WARMING_UP}


def test_scale_below_the_error_moves_the_collapse_point_up() -> None:
    """A mean squared error of four times sigma squared: the point is at 40 and not at 10."""

    def make(epoch: int, beta: float) -> EpochReport:
        return report(epoch, rate_nats=0.001, beta=beta, sigma=0.1, mse=0.04, spectral_peak=10.0)

    def first(beta: float) -> int:
        return kinds(lambda epoch: make(epoch, beta)).index(Kind.NEVER_FORMED) + 1

    assert (first(159.0), first(161.0)) == (5, 3)


def test_rate_that_tells_no_examples_apart_is_silence() -> None:
    """18 nats of a posterior that is far from the prior and the same for all."""
    dead = {"mutual_information_nats": 0.0, "decoder_sensitivity": 0.0}

    def trial(**changes: float) -> list[Verdict]:
        return verdicts(lambda epoch: report(epoch, rate_nats=18.0, **(dead | changes)), epochs=7)

    told = trial()
    assert [verdict.kind for verdict in told] == [Kind.WARMING_UP] * 4 + [Kind.NEVER_FORMED] * 3
    assert told[-1].reason.endswith("the same for all examples: a lower learning rate.")
    for alive in ({"mutual_information_nats": 0.2}, {"decoder_sensitivity": 0.02}):
        assert {verdict.kind for verdict in trial(**alive)} == {Kind.HEALTHY}
    waiting = trial(explained_variance=-1.0)
    assert {verdict.kind for verdict in waiting} <= {Kind.WARMING_UP, Kind.STALLED}


def test_rate_that_grows_out_of_silence_is_waited_for() -> None:
    rising = kinds(lambda epoch: report(epoch, rate_nats=0.003 * 1.2**epoch), epochs=19)
    assert rising[:19] == [Kind.WARMING_UP] * 19
    creeping = kinds(lambda epoch: report(epoch, rate_nats=0.003 * 1.1**epoch), epochs=19)
    assert creeping.index(Kind.NEVER_FORMED) == 4


def test_infinite_bits_are_an_explosion() -> None:
    trial = history([report(1), report(2, bits_per_dim=math.inf)])
    assert judge(trial, Limits()).kind is Kind.EXPLODING


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"rate_nats": 0.0}, "rate_nats must be above 0, got 0.0"),
        ({"rate_nats": math.nan}, "rate_nats must be above 0, got nan"),
        ({"steps": 0}, "steps must be above 0, got 0"),
        ({"blind_factor": 1.0}, "blind_factor must be above 1, got 1.0"),
        ({"stalled_steps": 0}, "stalled_steps must be above 0, got 0"),
        ({"latent_nats": 0.0}, "latent_nats must be above 0, got 0.0"),
        ({"overfit_bits": 0.0}, "overfit_bits must be above 0, got 0.0"),
        ({"settled_log_sigma": -0.1}, "settled_log_sigma must not be negative, got -0.1"),
        ({"settled_log_sigma": math.nan}, "settled_log_sigma must not be negative, got nan"),
        ({"blind_steps": -1}, "blind_steps must not be negative, got -1"),
    ],
    ids=str,
)
def test_limits_without_sense_are_refused(limits: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Limits(**limits)
