"""Losses that are absurd or no numbers any more, and what makes them so: see `diagnosis`."""

import itertools
import statistics
from collections.abc import Iterator

from tune_vae.science.findings import Cause, Finding, Seen

__all__ = ["explosions"]

BLOWN_RATE_NATS = 2000.0
"""No sound latent code of an image is that long."""
BLOWN_PER_VALUE = 50.0
"""Nats per value. A guess of 8-bit pixels costs 5.5; a Gaussian of σ 0.05 at its worst 35."""
BLOWN_FACTOR = 1000.0
"""The same of a loss whose N is not known, in units of what it comes to."""
BLOWN_UNKNOWN = 1e5
"""A distortion that stays above this, with a long code, is of data that are not in [0, 1]."""
FAST_FALL = 30.0
"""A blown-up loss that falls by this factor within an epoch was blown up by the steps and not by
the weights that it began with, which steps of a usual size cannot shrink as fast."""
JUMP = 0.5
"""Share of all that was gained by which a loss may not rise again."""
FAST_LR = 0.03
"""Above this Adam's steps are too large for nearly any network."""
LONG_CODE_NATS = 20.0


def explosions(seen: Seen) -> Iterator[Finding]:
    """Why a training exploded, the likeliest first; nothing if it did not."""
    curve, good = seen.curve, seen.curve.finite
    if len(good) < len(curve.points):
        yield from _not_finite(seen)
        return
    blown = _absurd(seen)
    if not blown:
        jump = "" if seen.warming else _jump(seen)
        if jump:
            yield _learning_rate(seen, jump)
        return
    stays = _stays_large(seen)
    falls = _largest_fall(seen)
    if stays:
        yield _data_scale(stays)
    if falls < FAST_FALL:
        yield _initialisation(f"{blown}, and it comes down by no more than {falls:.2g}× an epoch")
        yield _learning_rate(seen, blown)
    else:
        told = f"{blown}; it fell by {falls:.2g}× within an epoch" if falls > 1 else blown
        yield _learning_rate(seen, told)
        yield _initialisation(blown)


def _not_finite(seen: Seen) -> Iterator[Finding]:
    good, point = seen.curve.finite, seen.curve.points[len(seen.curve.finite)]
    if good:
        evidence = f"finite until epoch {good[-1].epoch:g}, then not any more"
        yield _learning_rate(seen, evidence)
        return
    evidence = f"not finite already in epoch {point.epoch:g}"
    causes = [_learning_rate(seen, evidence), _initialisation(evidence)]
    if seen.curve.lr is not None and seen.curve.lr < FAST_LR:
        causes.reverse()
    yield from causes
    yield _data_scale(f"{evidence}; whether the values lie in [0, 1] a log does not say")


def _absurd(seen: Seen) -> str:
    """That a loss is beyond all that a sound training has, in words; empty if none is."""
    rates = seen.rates_nats
    if rates and max(rates) > BLOWN_RATE_NATS:
        return f"a rate of {max(rates):.2g} nats, longer than any code of an image"
    per_value = seen.per_value
    if per_value and max(per_value) > BLOWN_PER_VALUE:
        return f"a distortion of {max(per_value):.2g} per value, where a blind guess costs 6"
    losses = [value for _, value in (*seen.curve.series("loss"), *seen.course)]
    usual = statistics.median(map(abs, losses))
    if not per_value and max(losses) > BLOWN_FACTOR * max(usual, 1.0):
        return f"a loss of {max(losses):.2g}, {max(losses) / max(usual, 1.0):.2g}× its median"
    return ""


def _jump(seen: Seen) -> str:
    """That a loss rose by a large share of what it had gained, in words."""
    series = seen.curve.series("loss") or seen.course
    best = series[0][1]
    for (_, before), (epoch, now) in itertools.pairwise(series):
        best = min(best, before)
        gained = series[0][1] - best
        if gained > 0 and now - before > JUMP * gained:
            return f"the loss jumped from {before:.3g} to {now:.3g} in epoch {epoch:g}"
    return ""


def _stays_large(seen: Seen) -> str:
    """That the distortion is absurd to the end and hardly moves any more, in words."""
    series = [value for _, value in seen.curve.series("distortion")]
    count = len(series)
    if count < 4:
        return ""
    early, late = (
        statistics.median(part)
        for part in (series[count // 4 : count // 2], series[-count // 4 :])
    )
    if early > 10 * late:
        return ""
    per_value, rates = seen.per_value, seen.rates_nats
    if per_value and per_value[-1] > BLOWN_PER_VALUE:
        return (
            f"a distortion of {per_value[-1]:.3g} per value to the end; of values in [0, 1] it is "
            "at most some nats, unless the decoder's scale is fixed far too small"
        )
    if not per_value and series[-1] > BLOWN_UNKNOWN and rates and rates[-1] > LONG_CODE_NATS:
        return f"a distortion of {series[-1]:.3g} to the end"
    return ""


def _largest_fall(seen: Seen) -> float:
    """The largest factor by which a loss came down from one logged epoch to the next."""
    losses = [value for _, value in seen.curve.series("loss") or seen.course]
    floor = max(statistics.median(map(abs, losses)), 1e-12)
    return max(
        (before / max(now, floor) for before, now in itertools.pairwise(losses)),
        default=1.0,
    )


def _learning_rate(seen: Seen, evidence: str) -> Finding:
    lr = seen.curve.lr
    told = f"{evidence}; the learning rate is {lr:.3g}" if lr is not None else evidence
    return Finding(
        Cause.LEARNING_RATE,
        told,
        (
            f"a tenth of the learning rate{f' ({lr / 10:.2g})' if lr else ''}",
            "gradients clipped to a norm of some hundreds, where losses are sums",
            "log-variances bounded, as by 7·tanh(v / 7)",
        ),
    )


def _initialisation(evidence: str) -> Finding:
    return Finding(
        Cause.INITIALISATION,
        evidence,
        (
            "the initial weights of the framework, and a last layer scaled by 0.1",
            "log-variances that begin near 0 and are bounded, as by 7·tanh(v / 7)",
            "a normalisation of the data to [0, 1], if that is not done",
        ),
    )


def _data_scale(evidence: str) -> Finding:
    return Finding(
        Cause.DATA_SCALE,
        evidence,
        (
            "values divided by their largest (255), so that they lie in [0, 1]",
            "a σ that is learned or fitted, if it was fixed at a small value",
        ),
    )
