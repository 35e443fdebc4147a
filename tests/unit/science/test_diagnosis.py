"""What is said of a curve; the causes themselves are tested on real trainings."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from tune_vae.science.curve import Curve, CurvePoint, Reduction
from tune_vae.science.diagnosis import Cause, diagnose

EXCERPT = Curve(
    (
        CurvePoint(1, 0.8684, 0.8440, 0.0488, 0.7531),
        CurvePoint(5, 0.5926, 0.4825, 0.2203, 0.5779),
        CurvePoint(10, 0.5083, 0.3807, 0.2554, 0.4987),
        CurvePoint(18, 0.4374, 0.2755, 0.3238, 0.4253),
    )
)


def test_excerpt_of_a_real_log_is_healthy_with_beta_a_half_and_not_in_nats() -> None:
    told = diagnose(EXCERPT)
    assert [finding.cause for finding in told.findings] == [Cause.HEALTHY]
    assert told.weight is not None
    assert told.weight.last == pytest.approx(0.5, abs=0.001)
    assert told.weight.constant
    assert told.reduction is Reduction.MEAN
    assert told.notes[0] == "KL weight β: 0.5, inferred from loss = distortion + β·rate."
    # ½ ln(0.844 / 0.2755) = 0.56 nats are needed, 0.32 are there.
    assert told.notes[1].startswith("The units cannot be nats per image: ")
    assert "at most 48% of a squared error, of which 67% is gone" in told.notes[1]
    assert told.notes[2].endswith("beta_norm = β·M/N = 0.5 of sums in nats.")


def test_weight_of_means_is_that_of_sums_once_n_and_m_are_known() -> None:
    told = diagnose(replace(EXCERPT, values=784, latents=16))
    assert told.notes[2].endswith("= 0.5 of sums in nats, β = 24.5.")


def course(
    way: Callable[[float], float], *, epochs: int = 40, rate: float = 10.0, beta: float = 1.0
) -> Curve:
    """A curve in nats whose distortion is a function of the share of time that has passed."""
    points = []
    for epoch in range(1, epochs + 1):
        distortion = way(epoch / epochs)
        loss = distortion + beta * rate
        points.append(CurvePoint(epoch, loss, distortion, rate, loss + 1))
    return Curve(tuple(points), values=784, latents=16)


def falling(share: float) -> float:
    return 100 + 150 * math.exp(-8 * share)


def first(curve: Curve) -> Cause:
    return diagnose(curve).first.cause


def test_each_cause_is_told_of_the_plainest_curve_and_its_opposite_is_not() -> None:
    assert first(course(falling)) is Cause.HEALTHY
    assert first(course(falling, rate=0.01)) is Cause.COLLAPSE
    assert first(course(falling, rate=0.2)) is Cause.HEALTHY
    assert first(course(lambda share: 300 - 100 * share)) is Cause.UNDERFITTING
    assert first(course(falling, rate=60.0, beta=1e-4)) is Cause.NO_REGULARISATION
    assert first(course(falling, rate=60.0, beta=0.01)) is Cause.HEALTHY
    assert first(course(lambda share: 784 * 0.92 + 40 * math.exp(-8 * share))) is Cause.FIXED_SCALE
    assert first(course(lambda share: 784 * 0.91 + 40 * math.exp(-8 * share))) is Cause.HEALTHY


def test_collapse_says_which_weight_to_try_and_knows_the_units() -> None:
    told = diagnose(course(falling, rate=0.01, beta=20.0)).first
    assert told.remedies[0] == "a KL weight of at most 2"
    assert "a KL weight of 20" in told.evidence


def test_loss_that_jumps_is_the_learning_rate_and_that_of_a_warm_up_is_not() -> None:
    quiet = course(falling)
    points = list(quiet.points)
    points[30] = replace(points[30], loss=400.0)
    jumped = diagnose(replace(quiet, points=tuple(points)))
    assert jumped.first.cause is Cause.LEARNING_RATE
    assert jumped.weight is not None
    assert jumped.weight.constant
    assert "from 110 to 400 in epoch 31" in jumped.first.evidence
    warm = [
        replace(p, loss=100 + 10 * min(1.0, p.epoch / 30), distortion=100.0) for p in quiet.points
    ]
    told = diagnose(replace(quiet, points=tuple(warm)))
    assert told.first.cause is Cause.WARM_UP
    assert "the loss rose by 9.67 since epoch 1" in told.first.evidence


@pytest.mark.parametrize(
    ("lr", "causes"),
    [
        (None, [Cause.LEARNING_RATE, Cause.INITIALISATION, Cause.DATA_SCALE]),
        (0.5, [Cause.LEARNING_RATE, Cause.INITIALISATION, Cause.DATA_SCALE]),
        (1e-3, [Cause.INITIALISATION, Cause.LEARNING_RATE, Cause.DATA_SCALE]),
    ],
)
def test_loss_that_never_was_finite_has_three_causes(
    lr: float | None, causes: list[Cause]
) -> None:
    lost = Curve((CurvePoint(1, math.nan, math.nan, math.inf),), lr=lr)
    assert [finding.cause for finding in diagnose(lost).findings] == causes


def test_loss_that_was_finite_before_is_the_learning_rate() -> None:
    points = (*course(falling).points[:7], CurvePoint(8, math.nan))
    told = diagnose(replace(course(falling), points=points, lr=0.02)).first
    assert told.cause is Cause.LEARNING_RATE
    assert told.evidence == "finite until epoch 7, then not any more; the learning rate is 0.02"
    assert told.remedies[0] == "a tenth of the learning rate (0.002)"


def test_overfitting_is_told_with_the_epoch_to_stop_at() -> None:
    good = course(falling)
    worse = [
        replace(point, val_loss=111 + abs(point.epoch - 20) + math.exp(-point.epoch))
        for point in good.points
    ]
    told = diagnose(replace(good, points=tuple(worse)))
    assert told.first.cause is Cause.OVERFITTING
    assert told.first.remedies[1].startswith("an end at epoch 20,")
    # The same validation while training gains nothing is not.
    stuck = [replace(p, loss=111.0 + p.epoch / 1e3) for p in worse]
    assert first(replace(good, points=tuple(stuck))) is not Cause.OVERFITTING


def test_mean_rate_counts_as_often_as_there_are_latents() -> None:
    curve = replace(
        course(lambda share: falling(share) / 784, rate=0.02), reduction=Reduction.MEAN
    )
    # Without validation, which `course` puts a whole nat beside training.
    bare = replace(curve, points=tuple(replace(p, val_loss=None) for p in curve.points))
    assert first(replace(bare, latents=16)) is Cause.HEALTHY
    assert first(replace(bare, latents=4)) is Cause.COLLAPSE


def test_validation_that_has_only_just_become_worse_is_not_overfitting() -> None:
    good = course(falling)
    for since, cause in ((36, Cause.OVERFITTING), (37, Cause.HEALTHY)):
        worse = [
            replace(p, val_loss=(p.val_loss or 0.0) + (30 if p.epoch > since else 0))
            for p in good.points
        ]
        assert first(replace(good, points=tuple(worse))) is cause


def test_gap_that_opens_early_is_overfitting_and_a_late_one_is_not() -> None:
    good = course(falling)
    # Validation stays where training is in epoch 8 of 40, or in epoch 20.
    for epoch, cause in ((8, Cause.OVERFITTING), (20, Cause.HEALTHY)):
        level = good.points[epoch - 1].loss
        assert level is not None
        held = [replace(p, val_loss=max(p.loss or 0.0, level)) for p in good.points]
        told = diagnose(replace(good, points=tuple(held))).first
        assert told.cause is cause
        assert (f"reached in epoch {epoch} " in told.evidence) == (cause is Cause.OVERFITTING)


def test_likelihood_that_is_told_is_believed() -> None:
    grey = replace(course(falling), likelihood="bernoulli", levels=256)
    assert first(grey) is Cause.IMPROPER
    assert first(replace(grey, levels=2)) is Cause.HEALTHY
    assert first(replace(grey, likelihood="continuous_bernoulli")) is Cause.HEALTHY


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_short_curves_are_judged_without_a_fault(count: int) -> None:
    for curve in (EXCERPT, course(falling), course(falling, rate=0.0)):
        assert diagnose(replace(curve, points=curve.points[:count])).findings


@pytest.mark.parametrize("field", ["loss", "val_loss", "distortion"])
def test_curve_of_one_quantity_is_judged(field: str) -> None:
    points = tuple(CurvePoint(n, **{field: 100 + 50 * math.exp(-n)}) for n in range(20))
    told = diagnose(Curve(points))
    assert told.first.cause is Cause.HEALTHY
    assert told.weight is None
