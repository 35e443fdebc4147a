"""What is wrong with a training, or that it is healthy, from its curve alone.

`health` judges trainings of this project, of which everything is measured. Here is only what
anybody's log states, so that each cause is a suspicion with its evidence, the likeliest first.

References:
    | Generating Sentences from a Continuous Space (Bowman et al., 2016): collapse, warm-up
    | https://arxiv.org/abs/1511.06349
    | Don't Blame the ELBO! (Lucas et al., 2019): collapse and the decoder's variance
    | https://arxiv.org/abs/1911.02469
    | Simple and Effective VAE Training with Calibrated Decoders (Rybkin et al., 2021)
    | https://arxiv.org/abs/2006.13202
    | The continuous Bernoulli (Loaiza-Ganem & Cunningham, 2019): Bernoulli on grey images
    | https://arxiv.org/abs/1907.06845
"""

import itertools
import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tune_vae.science.curve import Curve, Reduction, Weight, kl_weight, reduction
from tune_vae.science.explosions import explosions
from tune_vae.science.findings import Cause, Finding, Seen
from tune_vae.science.health import Limits

__all__ = ["Cause", "Diagnosis", "Finding", "diagnose"]

SILENT_NATS = Limits().rate_nats
"""Below this the latents carry nothing, as in `health`."""
FREE = 2e-3
"""A KL weight on the scale of sums below which the rate is hardly paid for."""
LONG_CODE_NATS = 20.0
"""A rate that says more of an image than which of its kind it is."""
UNIT_GAUSSIAN = 0.5 * math.log(2 * math.pi)
"""Nats per value that a Gaussian of σ = 1 costs at least."""
ABOVE_UNIT = 0.25
"""How far above that a Gaussian of σ = 1 on values in [0, 1] can be: by half the variance."""
COIN = math.log(2)
"""Nats per value of a Bernoulli that knows nothing."""
GREY = 0.26
"""Nats per value above which a Bernoulli that is well told its image still pays for grey."""
LATE_GAIN = 0.18
"""A training that gains so much of all its gain in its last quarter was stopped too early."""
SLOW_GAIN, SLOW_START = 0.06, 1.6
"""The same of one that gains less but got going late: per factor of epochs it then gains this
many times as much as in its first quarter."""
WORSE = 0.01
"""Share of the gain by which validation must have become worse since its best."""
NOISE = 4.0
"""The same in units of its move from epoch to epoch."""
EARLY, GAP = 1 / 3, 0.05
"""A training that so early has what validation comes to, and ends so far ahead of it, in shares
of its epochs and of its gain, learns its examples by heart."""


@dataclass(frozen=True)
class Diagnosis:
    """What a curve tells.

    Arguments:
        findings: At least one, the likeliest cause first.
        weight: KL weight in the units of the log; None if it cannot be told.
        reduction: What was done with the dimensions; None if it cannot be told.
        notes: What follows from weight and reduction, in sentences.
    """

    findings: tuple[Finding, ...]
    weight: Weight | None
    reduction: Reduction | None
    notes: tuple[str, ...]

    @property
    def first(self) -> Finding:
        return self.findings[0]


def diagnose(curve: Curve) -> Diagnosis:
    """What is wrong with a training, the likeliest first, or that nothing is. A pure function."""
    units, why = reduction(curve)
    weight = kl_weight(curve)
    seen = Seen(curve, weight, units)
    found = list(explosions(seen))
    if not found:
        ways: Sequence[Callable[[Seen], Iterator[Finding]]] = (
            _underfitting,
            _silent,
            _unregularised,
            _overfitting,
            _improper,
        )
        found = [finding for way in ways for finding in way(seen)]
    if not found:
        found = [*_warm_up(seen), *_healthy(seen)]
    return Diagnosis(tuple(found), weight, units, tuple(_notes(seen, why)))


def _silent(seen: Seen) -> Iterator[Finding]:
    """The latents carry nothing at the end, for one of three reasons."""
    rates, per_value, curve = seen.rates_nats, seen.per_value, seen.curve
    unit = _unit_gaussian(seen)
    silent = bool(rates) and rates[-1] < SILENT_NATS
    if unit:
        used = "and the latents are silent" if silent else "which leaves little for the latents"
        yield Finding(
            Cause.FIXED_SCALE,
            f"{per_value[-1]:.3f} nats per value, of which {UNIT_GAUSSIAN:.3f} are the constant "
            f"½·ln 2π of a Gaussian of σ = 1, {used}",
            (
                "σ learned, or fitted: σ² is the mean squared error",
                "the same as a smaller KL weight: β = σ², such as 0.01",
            ),
        )
    if not silent:
        return
    evidence = f"a rate of {rates[-1]:.2g} nats at the end"
    if max(rates) >= SILENT_NATS:
        evidence += f", after {max(rates):.2g} at most"
    sums = seen.beta
    if seen.units is Reduction.MIXED:
        factor = f"N = {curve.values:,}" if curve.values else "the number of values"
        yield Finding(
            Cause.MEAN_REDUCTION,
            f"a distortion of {per_value[-1]:.2g}, which is a mean over values, beside a KL term "
            f"that is a sum over latents: it weighs more than stated by {factor}; {evidence}",
            (
                "the distortion summed over the values of an example, averaged over examples",
                f"or a KL weight divided by {factor}",
            ),
        )
    less = f"a KL weight of at most {sums / 10:.2g}" if sums else "a tenth of the KL weight"
    remedies = [less, "a warm-up of that weight from 0 over a third of the training"]
    if seen.warming:
        remedies = [f"{less}; the latents spoke while it was lower"]
    if sums is not None and sums < 1 and not unit:
        remedies.append("another learning rate: at such a weight the network may just be dead")
    yield Finding(
        Cause.COLLAPSE,
        f"{evidence}: the decoder does without the latents"
        + (f", at a KL weight of {sums:.2g}" if sums is not None else ""),
        (
            *remedies,
            "σ of the decoder learned or fitted, if it is fixed",
            "some free bits for each latent (0.1 nats)",
        ),
    )


def _unit_gaussian(seen: Seen) -> bool:
    per_value = seen.per_value
    if not per_value or seen.curve.likelihood not in ("", "gaussian"):
        return False
    lowest, last = min(per_value), per_value[-1]
    return lowest > UNIT_GAUSSIAN and last < UNIT_GAUSSIAN + ABOVE_UNIT


def _unregularised(seen: Seen) -> Iterator[Finding]:
    beta, rates = seen.beta, seen.rates_nats
    if beta is None or beta >= FREE or not rates or rates[-1] < LONG_CODE_NATS:
        return
    grown = "" if len(rates) < 4 else f", from {rates[len(rates) // 4]:.3g} in a quarter of it"
    yield Finding(
        Cause.NO_REGULARISATION,
        f"the KL weight is {beta:.2g}, and the rate {rates[-1]:.3g} nats{grown}: this is an "
        "autoencoder, whose prior describes nothing",
        (
            "a KL weight of 1 where the likelihood has the right scale, else between 0.01 and 1",
            "weight decay, and a bound for the log-variances",
        ),
    )


def _overfitting(seen: Seen) -> Iterator[Finding]:
    val, train = seen.curve.series("val_loss"), seen.curve.series("loss")
    if min(len(val), len(train)) < 5 or seen.warming:
        return
    evidence = _worse_since(val, dict(train)) or _memorised(val, train)
    if evidence:
        epoch, _ = min(val, key=lambda one: one[1])
        yield Finding(
            Cause.OVERFITTING,
            evidence,
            (
                "more data, or changes of them that leave them what they are",
                f"an end at epoch {epoch:g}, where validation was best, or before",
                "dropout, weight decay, or a smaller network",
            ),
        )


def _worse_since(val: Sequence[tuple[float, float]], train: dict[float, float]) -> str:
    """That validation became worse while training gained, in words."""
    epoch, best = min(val, key=lambda one: one[1])
    moves = [abs(b - a) for (_, a), (_, b) in itertools.pairwise(val)]
    noise = NOISE * statistics.median(moves[len(moves) // 2 :])
    lost = statistics.median(value for _, value in val[-3:]) - best
    after = sum(at > epoch for at, _ in val)
    if after < len(val) / 10 or lost <= max(WORSE * (val[0][1] - best), noise):
        return ""
    gained = train.get(epoch, -math.inf) - train.get(val[-1][0], math.inf)
    if gained <= 0:
        return ""
    return (
        f"validation is worse by {lost:.3g} than in epoch {epoch:g}, while training gained "
        f"{gained:.3g}"
    )


def _memorised(val: Sequence[tuple[float, float]], train: Sequence[tuple[float, float]]) -> str:
    """That most of the training went into what validation has nothing of, in words."""
    level, begin, end = min(value for _, value in val), train[0][0], train[-1][0]
    epoch = next((at for at, value in train if value <= level), math.inf)
    gap = level - train[-1][1]
    if epoch - begin > EARLY * (end - begin) or gap < GAP * (train[0][1] - train[-1][1]):
        return ""
    return (
        f"training had reached in epoch {epoch:g} what validation has at its best, and is "
        f"ahead by {gap:.3g} now"
    )


def _underfitting(seen: Seen) -> Iterator[Finding]:
    course = seen.course
    if seen.warming or len(course) < 4:
        return
    begin, end = course[0][0], course[-1][0]
    first, last = course[0][1], course[-1][1]
    total = first - last
    if total <= 0:
        return
    late = (_at(course, begin + 0.75 * (end - begin)) - last) / total
    quarter = begin + 0.25 * (end - begin)
    middle, offset = _at(course, quarter), 1 - min(begin, 1)
    early = (first - middle) / math.log((quarter + offset) / (begin + offset))
    later = (middle - last) / math.log((end + offset) / (quarter + offset))
    slow = late > SLOW_GAIN and later > SLOW_START * max(early, 0.0)
    if late <= LATE_GAIN and not slow:
        return
    faster, longer = "a learning rate 3 to 10 times as high, if it is below 1e-3", "more epochs"
    yield Finding(
        Cause.UNDERFITTING,
        f"{late:.0%} of all that was gained came in the last quarter"
        + (", and it began late" if slow else ""),
        (*((faster, longer) if slow else (longer, faster)), "a larger network"),
    )


def _at(series: Sequence[tuple[float, float]], place: float) -> float:
    """The value at an epoch, on the line between its neighbours."""
    for (before, low), (after, high) in itertools.pairwise(series):
        if before <= place <= after:
            return low + (high - low) * (place - before) / (after - before)
    return series[-1][1]


def _improper(seen: Seen) -> Iterator[Finding]:
    curve, per_value = seen.curve, seen.per_value
    told = curve.likelihood == "bernoulli" and (curve.levels or 2) > 2
    grey = (
        curve.likelihood in ("", "bernoulli")
        and curve.levels != 2
        and len(per_value) > 1
        and max(per_value) < 1.1 * COIN
        and GREY < min(per_value)
        and max(seen.rates_nats, default=0.0) > 1
    )
    if not told and not grey:
        return
    evidence = "a Bernoulli likelihood of data with more than two levels"
    if not told:
        evidence = (
            f"{per_value[-1]:.2f} nats per value at the end, from {per_value[0]:.2f}: this looks "
            f"like binary cross-entropy, which begins at ln 2 = {COIN:.2f}, on values that are "
            "grey; what remains is their greyness, and no model can take it away"
        )
    yield Finding(
        Cause.IMPROPER,
        evidence,
        (
            "a continuous Bernoulli, or a Gaussian with a fitted σ, for values between 0 and 1",
            "or binary data: pixels set by a threshold, or drawn",
            "if the data are binary, the model is too small or the training too short",
        ),
    )


def _warm_up(seen: Seen) -> Iterator[Finding]:
    weight, losses = seen.weight, seen.curve.series("loss") or seen.course
    if weight is None or not weight.rising:
        return
    lowest = min(losses, key=lambda one: one[1])
    rise = losses[-1][1] - lowest[1]
    rates = [value for _, value in seen.curve.series("rate")]
    risen = f"the loss rose by {rise:.3g} since epoch {lowest[0]:g}" if rise > 0 else "it falls"
    yield Finding(
        Cause.WARM_UP,
        f"the KL weight climbs from {weight.first:.2g} to {weight.last:.2g}; {risen}, because the "
        f"rate is paid for more and more (it came from {max(rates, default=0.0):.3g} to "
        f"{rates[-1] if rates else 0.0:.3g}), not because the training fails",
        ("nothing, but compare losses of different epochs at one weight: distortion + rate",),
    )


def _healthy(seen: Seen) -> Iterator[Finding]:
    course, rates = seen.course, [value for _, value in seen.curve.series("rate")]
    told = [f"the loss falls from {course[0][1]:.4g} to {course[-1][1]:.4g}"]
    if rates:
        way = "rises" if rates[-1] > rates[0] else "stays"
        told.append(
            f"the rate {way}, from {rates[0]:.3g} to {rates[-1]:.3g}: the latents are used"
        )
    val, train = seen.last("val_loss"), seen.last("loss")
    if val is not None and train is not None:
        told.append(f"validation ends at {val:.4g}, training at {train:.4g}")
    begin, end = course[0][0], course[-1][0]
    late = _at(course, begin + 0.75 * (end - begin)) - course[-1][1]
    share = late / (course[0][1] - course[-1][1]) if course[0][1] > course[-1][1] else 0.0
    better = (f"more epochs: the last quarter still brought {share:.0%} of the gain",)
    yield Finding(Cause.HEALTHY, "; ".join(told), better if share > SLOW_GAIN else ())


def _notes(seen: Seen, why: str) -> Iterator[str]:
    weight, curve = seen.weight, seen.curve
    if weight is not None:
        how = "stated" if weight.stated else "inferred from loss = distortion + β·rate"
        value = f"{weight.last:.3g}"
        if not weight.constant:
            value = f"{weight.first:.2g} at first and {value} at last"
        yield f"KL weight β: {value}, {how}."
    if why:
        yield f"The units cannot be nats per image: {why}."
    if seen.units is Reduction.MEAN and weight is not None:
        yield (
            "If distortion and rate both are means over their dimensions, that weight is "
            f"beta_norm = β·M/N = {weight.last:.3g} of sums in nats"
            + (f", β = {seen.beta:.3g}." if seen.beta is not None else ".")
        )
    if curve.values is None and seen.units is not Reduction.MEAN:
        yield "N, the number of values of an example, would make this firmer."
