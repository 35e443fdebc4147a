r"""The curve of any training, in the units of its log, and what these units can be.

A log states a loss, its distortion (reconstruction term) and its rate (KL term), but seldom the
weight β between them, and hardly ever whether the terms are sums over dimensions, in nats per
example, or means. Both can often be told from the numbers.
"""

import enum
import itertools
import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Curve", "CurvePoint", "Reduction", "Weight", "kl_weight", "reduction"]

MEAN_DISTORTION = 2.0
"""Below this, per example, no image has a distortion that says anything: 0.03 of the 64 values
of the smallest images that are in use."""
LEAST_PER_VALUE = 0.004
"""The distortion per value at the beginning is no less: half the variance of values in [0, 1]
that hardly differ, 0.09² / 2."""
SURE = 0.1
"""Relative error below which an inferred weight is used."""
STEADY = 0.15
"""Spread of the inferred weights within which they are called constant."""
MOST = 0.8
"""Share of the epochs of which that must hold; in the others something else may be wrong."""
DIGITS = 1e-4
"""Relative precision of a logged number, unless it has more digits; and absolute, below 1."""


class Reduction(enum.StrEnum):
    """What was done with the dimensions of distortion and rate.

    | reduction | distortion            | rate                  | β on the scale of sums       |
    |-----------|-----------------------|-----------------------|------------------------------|
    | sum       | sum over N values     | sum over M latents    | the weight w itself          |
    | mean      | mean over N values    | mean over M latents   | w·N/M, so that beta_norm = w |
    | mixed     | mean over N values    | sum over M latents    | w·N                          |

    All are means over examples.
    """

    SUM = "sum"
    MEAN = "mean"
    MIXED = "mixed"


@dataclass(frozen=True)
class CurvePoint:
    """One epoch. None for what the log does not state; not finite if it states that.

    Arguments:
        epoch: Its number; epochs may be missing.
        loss, distortion, rate: Of training.
        val_loss, val_distortion, val_rate: Of validation.
        beta: KL weight, where it is stated.
    """

    epoch: float
    loss: float | None = None
    distortion: float | None = None
    rate: float | None = None
    val_loss: float | None = None
    val_distortion: float | None = None
    val_rate: float | None = None
    beta: float | None = None

    @property
    def stated(self) -> list[float]:
        """All losses and terms of the epoch."""
        train = (self.loss, self.distortion, self.rate)
        validation = (self.val_loss, self.val_distortion, self.val_rate)
        return [number for number in (*train, *validation) if number is not None]

    @property
    def finite(self) -> bool:
        return all(math.isfinite(number) for number in self.stated)


@dataclass(frozen=True)
class Curve:
    """A training, as far as it is known.

    Arguments:
        points: In the order of their epochs, at least one.
        values, latents: N and M; None if unknown.
        reduction: None if unknown.
        likelihood: Name of the decoder distribution, such as `bernoulli`; empty if unknown.
        levels: Of the data: 2 for binary; None if unknown.
        lr: Learning rate; None if unknown.

    Raises:
        ValueError: There is no epoch, or none with a loss or a distortion.
    """

    points: tuple[CurvePoint, ...]
    values: int | None = None
    latents: int | None = None
    reduction: Reduction | None = None
    likelihood: str = ""
    levels: int | None = None
    lr: float | None = None

    def __post_init__(self) -> None:
        if not any(point.stated for point in self.points):
            raise ValueError("a curve needs at least one epoch with a loss or one of its terms")

    @property
    def finite(self) -> tuple[CurvePoint, ...]:
        """The epochs until the first number that is not finite."""
        return tuple(itertools.takewhile(lambda point: point.finite, self.points))

    def series(self, name: str) -> list[tuple[float, float]]:
        """Epoch and value of one quantity, where it is stated and finite."""
        own = [(point.epoch, getattr(point, name)) for point in self.finite]
        return [(epoch, value) for epoch, value in own if value is not None]


@dataclass(frozen=True)
class Weight:
    """The KL weight in the units of the log.

    Arguments:
        first, last: At the ends of the training.
        constant: Whether it stayed the same.
        stated: Whether the log states it; else it was inferred.
    """

    first: float
    last: float
    constant: bool
    stated: bool

    @property
    def rising(self) -> bool:
        """Whether there was a warm-up."""
        return not self.constant and self.last > self.first


def kl_weight(curve: Curve) -> Weight | None:
    r"""The weight β of `loss = distortion + β·rate`, stated or inferred; None if neither.

    Of the least squares $\hat\beta = \sum R_t (L_t - D_t) / \sum R_t^2$ over all epochs, if that
    explains them; else the ratio of each epoch by itself, where its digits suffice.

    Arguments:
        curve: At least one epoch with loss, distortion and rate, or with its weight.
    """
    told = curve.series("beta")
    if told:
        values = [value for _, value in told]
        constant = max(values) - min(values) <= STEADY * max(map(abs, values))
        return Weight(values[0], values[-1], constant, stated=True)
    terms = list(_terms(curve))
    if not terms:
        return None
    beta = sum(rate * rest for rate, rest, _ in terms) / sum(rate**2 for rate, _, _ in terms)
    if all(
        abs(rest - beta * rate) <= 2 * error + STEADY * abs(beta * rate)
        for rate, rest, error in terms
    ):
        return Weight(beta, beta, constant=True, stated=False)
    sure = [rest / rate for rate, rest, error in terms if error <= SURE * max(abs(rest), rate)]
    if not sure:
        return None
    first, middle, last = sure[0], statistics.median(sure), sure[-1]
    near = sum(abs(one - middle) <= STEADY * abs(middle) for one in sure)
    if near >= MOST * len(sure) and abs(last - first) <= STEADY * abs(last):
        return Weight(middle, middle, constant=True, stated=False)
    return Weight(first, last, constant=False, stated=False)


def _terms(curve: Curve) -> Iterator[tuple[float, float, float]]:
    """Rate, loss − distortion, and the error of that difference by rounding."""
    for point in curve.finite:
        if point.loss is None or point.distortion is None or not point.rate or point.rate < 0:
            continue
        error = DIGITS * max(abs(point.loss), abs(point.distortion), 1.0)
        yield point.rate, point.loss - point.distortion, error


def reduction(curve: Curve) -> tuple[Reduction | None, str]:
    """The reduction, and the sentence that says how it is known; None if it cannot be told."""
    if curve.reduction:
        return curve.reduction, ""
    told = [abs(value) for _, value in curve.series("distortion") or curve.series("loss")]
    if not told:
        return None, ""
    most = max(told)
    if curve.values:
        small = most < LEAST_PER_VALUE * curve.values
        why = f"a distortion of {most:.3g} is too little for the sum over {curve.values:,} values"
    else:
        small = most < MEAN_DISTORTION
        why = f"a distortion of {most:.3g} is too little for a whole example"
    if not small:
        return Reduction.SUM, ""
    silent = _too_little_rate(curve)
    if silent:
        return Reduction.MEAN, f"{why}, and {silent}"
    return Reduction.MIXED if _rates(curve) else Reduction.MEAN, why


def _rates(curve: Curve) -> list[float]:
    return [value for _, value in curve.series("rate")]


def _too_little_rate(curve: Curve) -> str:
    r"""Why the rate cannot be in nats per example; empty if it can.

    The latents tell at most R nats of an example. Of an error whose variance lies in a single
    direction, which is the most favourable case of a Gaussian, that takes away a share of at
    most $1 - e^{-2R}$.

    References:
        | Elements of Information Theory (Cover & Thomas, 2006), section 10.3: rate distortion
        | of a Gaussian source
    """
    both = [
        (point.distortion, point.rate)
        for point in curve.finite
        if point.distortion is not None and point.rate is not None
    ]
    if not both or min(distortion for distortion, _ in both) <= 0:
        return ""
    (first, least), (last, most) = both[0], both[-1]
    gone, possible = 1 - last / first, 1 - math.exp(-2 * most)
    if most <= least or gone <= possible:
        return ""
    return (
        f"a rate of {most:.3g} cannot be nats per example: these would explain at most "
        f"{possible:.0%} of a squared error, of which {gone:.0%} is gone since epoch "
        f"{curve.finite[0].epoch:g}"
    )
