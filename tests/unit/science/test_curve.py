"""Weight and units of a curve, against logs that were written with known ones."""

import math
import random

import pytest

from tune_vae.science.curve import Curve, CurvePoint, Reduction, kl_weight, reduction


def logged(beta: list[float], digits: int = 4, scale: float = 1.0) -> Curve:
    """A log of `digits` decimals whose KL weight is known in each epoch."""
    draw = random.Random(1)
    points = []
    for epoch, weight in enumerate(beta, 1):
        distortion = scale * (0.3 + 0.5 / epoch) + 0.01 * draw.random()
        rate = scale * (0.4 - 0.3 / epoch)
        numbers = (distortion + weight * rate, distortion, rate)
        points.append(CurvePoint(epoch, *(round(number, digits) for number in numbers)))
    return Curve(tuple(points))


@pytest.mark.parametrize("beta", [0.05, 0.5, 1.0, 4.0])
@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_constant_weight_is_inferred_within_the_digits_of_the_log(
    beta: float, scale: float
) -> None:
    weight = kl_weight(logged([beta] * 10, scale=scale))
    assert weight is not None
    assert weight.constant
    assert not weight.stated
    # Each number is off by half a digit, the difference of two by one.
    assert weight.last == pytest.approx(beta, abs=1e-4 / (0.1 * scale))


def test_rising_weight_is_told_from_its_beginning_to_its_end() -> None:
    weight = kl_weight(logged([min(1.0, 0.1 * epoch) for epoch in range(1, 16)]))
    assert weight is not None
    assert weight.rising
    assert (weight.first, weight.last) == pytest.approx((0.1, 1.0), rel=0.02)
    falling = kl_weight(logged([2.0, 1.5, 1.0, 0.5]))
    assert falling is not None
    assert not falling.constant
    assert not falling.rising


def test_stated_weight_is_believed() -> None:
    curve = Curve(tuple(CurvePoint(n, 1.0, 0.5, 0.1, beta=0.25) for n in range(3)))
    weight = kl_weight(curve)
    assert weight is not None
    assert weight.stated
    assert weight.last == 0.25


@pytest.mark.parametrize(
    "point",
    [
        CurvePoint(1, loss=1.0),
        CurvePoint(1, loss=1.0, distortion=0.5),
        CurvePoint(1, loss=1.0, distortion=0.5, rate=0.0),
        CurvePoint(1, loss=1.0, distortion=0.5, rate=math.nan),
    ],
)
def test_weight_that_nothing_tells_is_unknown(point: CurvePoint) -> None:
    assert kl_weight(Curve((point,))) is None


def test_curve_ends_before_what_is_not_finite() -> None:
    points = (CurvePoint(1, 3.0), CurvePoint(2, math.inf), CurvePoint(3, 2.0))
    assert Curve(points).finite == points[:1]
    assert Curve(points).series("loss") == [(1, 3.0)]


@pytest.mark.parametrize("points", [(), (CurvePoint(1),), (CurvePoint(1, beta=1.0),)])
def test_curve_of_nothing_is_refused(points: tuple[CurvePoint, ...]) -> None:
    with pytest.raises(ValueError, match="at least one epoch"):
        Curve(points)


def of(*pairs: tuple[float, float], values: int | None = None) -> Curve:
    points = (CurvePoint(n, distortion=d, rate=r) for n, (d, r) in enumerate(pairs, 1))
    return Curve(tuple(points), values=values)


def test_reduction_is_that_of_the_numbers() -> None:
    assert reduction(of((180.0, 3.0), (100.0, 25.0)))[0] is Reduction.SUM
    assert reduction(of((6.0, 3.0), (2.0, 9.0), values=64))[0] is Reduction.SUM
    assert reduction(of((0.23, 3.0), (0.1, 9.0)))[0] is Reduction.MIXED
    assert reduction(of((0.23, 0.1), (0.1, 0.3)))[0] is Reduction.MEAN
    assert reduction(Curve((CurvePoint(1, distortion=0.1),)))[0] is Reduction.MEAN


def test_reduction_that_is_stated_is_believed() -> None:
    curve = Curve((CurvePoint(1, distortion=0.1),), reduction=Reduction.SUM)
    assert reduction(curve) == (Reduction.SUM, "")


def test_rate_of_a_gaussian_source_is_just_enough() -> None:
    """Of one Gaussian direction, R = ½ ln(σ² / D) nats: with less, units are refused."""
    for gone in (0.3, 0.6, 0.9):
        rate = 0.5 * math.log(1 / (1 - gone))
        enough = of((0.5, 0.0), (0.5 * (1 - gone), 1.001 * rate))
        short = of((0.5, 0.0), (0.5 * (1 - gone), 0.999 * rate))
        assert reduction(enough)[0] is Reduction.MIXED
        units, why = reduction(short)
        assert units is Reduction.MEAN
        assert "cannot be nats" in why
