"""Judgement of a trial from its history: one kind and one sentence."""

import enum
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from tune_vae.science.history import COMPARABLE_WEIGHT, EpochReport, History
from tune_vae.science.units import beta_to_norm

__all__ = ["Kind", "Limits", "Verdict", "judge"]


class Kind(enum.StrEnum):
    """What is true of a trial.

    | kind                | meaning                                                     | ends it |
    |---------------------|-------------------------------------------------------------|---------|
    | warming_up          | the KL weight is not yet full, or the latents need time     | no      |
    | healthy             | the latents carry information                               | no      |
    | partially_collapsed | they do, though fewer than half of them; mostly normal      | no      |
    | recovering          | they fell silent, or the loss blew up, and it is over       | no      |
    | overfitting         | validation gets worse while training gets better            | no      |
    | collapsed           | the latents carried information and are silent now          | yes     |
    | never_formed        | the latents never carried any                               | yes     |
    | stalled             | worse than one constant image, and will be so at the end    | yes     |
    | exploding           | finite, but far worse than a model that learned nothing     | yes     |
    | diverged            | loss or gradient not finite                                 | yes     |
    | hopeless            | worse than other trials at the same epoch (the pruner)      | yes     |
    | failed              | the machine or the program broke, not the model             | yes     |
    """

    WARMING_UP = "warming_up"
    HEALTHY = "healthy"
    PARTIALLY_COLLAPSED = "partially_collapsed"
    RECOVERING = "recovering"
    OVERFITTING = "overfitting"
    COLLAPSED = "collapsed"
    NEVER_FORMED = "never_formed"
    STALLED = "stalled"
    EXPLODING = "exploding"
    DIVERGED = "diverged"
    HOPELESS = "hopeless"
    FAILED = "failed"

    @property
    def fatal(self) -> bool:
        """Whether a trial of this kind is stopped."""
        return self not in _GOES_ON

    @property
    def infeasible(self) -> bool:
        """Whether such a trial says that its settings lead nowhere, wherever it was stopped."""
        return self.fatal and self not in (Kind.HOPELESS, Kind.FAILED)


_GOES_ON = (
    Kind.WARMING_UP,
    Kind.HEALTHY,
    Kind.PARTIALLY_COLLAPSED,
    Kind.RECOVERING,
    Kind.OVERFITTING,
)


@dataclass(frozen=True)
class Verdict:
    """What is true of a trial and the sentence that shows why."""

    kind: Kind
    reason: str


@dataclass(frozen=True)
class Limits:
    """When a trial is given which verdict.

    The defaults were found on the trainings of `tests/benchmarks/verdicts`. Time is counted in
    optimiser steps, because epochs are of any length.

    Arguments:
        rate_nats: A rate below this, in nats per example, carries no information; positive.
        steps: Optimiser steps for which the latents must have been silent; at least 1. Late
            bloomers are silent for some 200 steps and rise then.
        settled_log_sigma: How much log sigma may move per 100 steps and count as settled; a
            scale that still falls can still free the latents.
        blind_factor: A trial whose bits per dim exceed a uniform guess by this factor has
            exploded; above 1.
        blind_steps: Optimiser steps before that is asked; at least 0.
        stalled_steps: Optimiser steps over which the pace is taken of a trial that is worse than
            one constant image; at least 1.
        latent_nats: Rate below which a single latent carries no information; positive.
        overfit_bits: How many bits per dim validation must have lost since its best epoch for
            an overfitting; positive.
        foretold: A configuration of a search whose β exceeds the collapse point of the data by
            this factor is not trained; 0 trains all. See `collapse_point`.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    rate_nats: float = 0.1
    steps: int = 250
    settled_log_sigma: float = 0.02
    blind_factor: float = 30.0
    blind_steps: int = 100
    stalled_steps: int = 250
    latent_nats: float = 0.02
    overfit_bits: float = 0.05
    foretold: float = 1.0

    def __post_init__(self) -> None:
        for name, low in (
            ("rate_nats", 0.0),
            ("steps", 0),
            ("blind_factor", 1.0),
            ("stalled_steps", 0),
            ("latent_nats", 0.0),
            ("overfit_bits", 0.0),
        ):
            if not getattr(self, name) > low:
                raise ValueError(f"{name} must be above {low:g}, got {getattr(self, name)}")
        for name in ("settled_log_sigma", "blind_steps", "foretold"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")


NO_BETTER = -0.25
"""Explained variance below which a decoder is worse than the constant image. One that has
learned that image and nothing else lies near 0, of a continuous Bernoulli down to -0.1."""

BEYOND = 4.0
"""So many times the collapse point is beyond doubt, whatever the likelihood."""

DEAF = 0.01
"""Decoder sensitivity below which nothing is said of an example, if it comes with no mutual
information."""

GROWTH = 1.5
"""A late bloomer's rate grows by more than this within half of `Limits.steps`."""


def judge(history: History, limits: Limits) -> Verdict:
    """The verdict on a trial after its latest epoch. A pure function.

    Arguments:
        history: At least one report.
        limits: When to give which verdict.
    """
    return (
        _diverged(history)
        or _exploding(history, limits)
        or _stalled(history, limits)
        or _collapsed(history, limits)
        or _warming_up(history, limits)
        or _recovering(history, limits)
        or _overfitting(history, limits)
        or _healthy(history, limits)
    )


def _diverged(history: History) -> Verdict | None:
    last = history.last
    if last.lost:
        where = f"at step {last.lost_step}" if last.lost_step else f"in epoch {last.epoch}"
        what = f"loss not finite {where}{_before(history)}"
    elif last.skipped >= last.step // last.epoch:
        what = f"gradient not finite in any step of epoch {last.epoch}"
    else:
        return None
    earlier = "".join(f" Rolled back already: {one}." for one in history.rollbacks)
    return Verdict(Kind.DIVERGED, f"{what}; {_circumstances(last)}. {_calmer(last)}{earlier}")


def _exploding(history: History, limits: Limits) -> Verdict | None:
    last, bits, blind = history.last, _fair_bits(history, history.last), _blind_bits(history)
    if last.step < limits.blind_steps:
        return None
    if bits > limits.blind_factor * blind:
        return Verdict(
            Kind.EXPLODING,
            f"{bits:.3g} bits per dim in epoch {last.epoch}, where a blind guess costs "
            f"{blind:.3g}; {_circumstances(last)}. {_calmer(last)}",
        )
    steps = _steps_since(history, lambda report: not _blown_up(history, report))
    if steps >= limits.steps or (history.finished and steps):
        return Verdict(
            Kind.EXPLODING,
            f"for {steps} steps worse than a uniform guess and than one constant image: "
            f"{last.bits_per_dim_calibrated:.3g} bits per dim in epoch {last.epoch}; "
            f"{_circumstances(last)}. {_calmer(last)}",
        )
    return None


def _blown_up(history: History, report: EpochReport) -> bool:
    """Whether a report is dearer than a uniform guess and no better than a constant image.

    The first alone also holds of a sound model whose rate is nearly free.
    """
    if history.levels is None or not _worse(history, report):
        return False
    return report.bits_per_dim_calibrated > math.log2(history.levels)


def _worse(history: History, report: EpochReport) -> bool:
    """Whether a decoder is worse than the constant image."""
    explained = _explained(history, report)
    return explained is not None and explained < NO_BETTER


def _explained(history: History, report: EpochReport) -> float | None:
    """The explained variance, where there is one best constant image: not for counts, which are
    decoded with the total of each example at hand, and whose largest values rule every square.
    """
    return None if history.levels is None else report.explained_variance


def _fair_bits(history: History, report: EpochReport) -> float:
    """Bits per dim that no fixed scale far from the errors drives up, where there are such."""
    if history.levels is None or math.isinf(report.bits_per_dim):
        return _bits(report)
    return report.bits_per_dim_calibrated


def _blind_bits(history: History) -> float:
    """Bits per dim of a model that has learned nothing."""
    if history.levels:
        return math.log2(history.levels)
    # Of counts there is no even guess; no model is worse at its best than at its beginning.
    return min((_bits(report) for report in history), default=math.inf)


def _stalled(history: History, limits: Limits) -> Verdict | None:
    last, now = history.last, _explained(history, history.last)
    past = [
        report
        for report in history
        if report.step <= last.step - limits.stalled_steps
        and _explained(history, report) is not None
    ]
    # One that has run all its epochs has an honest value, however bad.
    if now is None or now >= NO_BETTER or not past or history.finished:
        return None
    then = past[-1]
    pace = (now - (_explained(history, then) or 0.0)) / (last.step - then.step)
    left = (history.epochs - last.epoch) * (last.step // last.epoch)
    if now + pace * left >= NO_BETTER:
        return None
    return Verdict(
        Kind.STALLED,
        f"worse than one constant image (explained variance {now:.2f}) after {last.step} steps, "
        f"and at this pace still at the end; {_circumstances(last)}, largest gradient "
        f"{last.grad_norm:.2g}. Another learning rate.",
    )


def _collapsed(history: History, limits: Limits) -> Verdict | None:
    last = history.last
    deaf = last.rate_nats >= limits.rate_nats
    if not _silent(last, limits) or (deaf and _worse(history, last)):
        return None
    silent = _silent_steps(history, limits)
    beyond = last.beta >= BEYOND * _collapse_point(history)
    # Of a decoder that has not even learned the constant image nothing is said of the latents.
    certain = silent >= limits.steps and _settled(history, limits) and not _worse(history, last)
    certain |= beyond and silent >= limits.steps / 2
    # At the end nothing can change any more, so a shorter look must do.
    if not (history.finished or (certain and not _rising(history, limits))):
        return None
    formed = not all(_silent(report, limits) for report in history)
    latents = len(last.rate_per_latent_nats)
    return Verdict(
        Kind.COLLAPSED if formed else Kind.NEVER_FORMED,
        f"latents {'unused' if formed else 'never used'}: rate {last.rate_nats:.2g} nats"
        f"{_information(last)} after {silent} steps, {last.active_units}/{latents} active units. "
        + (
            "The posterior is the same for all examples: a lower learning rate."
            if deaf
            else _lighter(history, limits)
        ),
    )


def _silent(report: EpochReport, limits: Limits) -> bool:
    """Whether the latents say nothing: at no rate, or at one that tells no examples apart.

    The second is a network of which nothing moves any more, but for the biases.
    """
    told, sensitivity = report.mutual_information_nats, report.decoder_sensitivity
    deaf = told is not None and told < limits.rate_nats
    deaf = deaf and sensitivity is not None and sensitivity < DEAF
    return deaf or report.rate_nats < limits.rate_nats


def _collapse_point(history: History) -> float:
    r"""KL weight β above which latents that are silent stay so; infinity if it is not known.

    Silence is an equilibrium if β exceeds the largest eigenvalue of the data's covariance in
    units of the decoder's variance, which is $\sigma^2$, or the mean squared error v once a
    learned scale has settled. In terms of the spectral peak $p = \lambda_1 / v$ that is
    $\beta > p \max(1, v / \sigma^2)$: exact for a Gaussian that is silent, and within a factor
    of `BEYOND` for other likelihoods, whose curvature differs by as much.

    References:
        | Don't Blame the ELBO! (Lucas et al., 2019): collapse of the linear VAE
        | https://arxiv.org/abs/1911.02469
    """
    last = history.last
    if last.spectral_peak is None:
        return math.inf
    narrow = 1.0 if math.isnan(last.sigma) else last.mse / last.sigma**2
    return last.spectral_peak * max(1.0, narrow)


def _silent_steps(history: History, limits: Limits) -> int:
    """Steps for which the latents were silent although nothing kept them so but the objective.

    Under a rising KL weight all silent steps count: what pays nothing at a low weight pays less
    at a higher one. A lower weight that is still to come may wake them for good, so that before
    it only steps at the full weight count, and no cycle for more than half of the proof. That a
    low phase lets them speak says nothing of the full weight. Far beyond the collapse point no
    cycle can help, and again all steps count.
    """
    cycles, silent, before, was_full = 0, 0, 0, False
    most, beyond = limits.steps // 2, BEYOND * _collapse_point(history)
    for report in history:
        span, before = report.step - before, report.step
        full = _full_steps(history, report, span)
        can_wake = _lower_ahead(report) and report.beta < beyond
        if _silent(report, limits):
            silent += full if can_wake else span
        elif report.kl_weight >= COMPARABLE_WEIGHT or not was_full:
            cycles = silent = 0
        if can_wake:
            silent = min(silent, most)
        was_full = was_full or full > 0
        if was_full and report.kl_weight < COMPARABLE_WEIGHT:
            cycles, silent = cycles + silent, 0
    return cycles + silent


def _full_steps(history: History, report: EpochReport, span: int) -> int:
    if report.full_steps is None:
        return span if history.comparable(report) else 0
    return report.full_steps


def _lower_ahead(report: EpochReport) -> bool:
    """Whether the KL weight comes down again, as far as anybody knows."""
    if report.kl_weight_ahead is None:
        return not report.comparable
    return report.kl_weight_ahead < min(report.kl_weight, COMPARABLE_WEIGHT)


def _settled(history: History, limits: Limits) -> bool:
    last = history.last
    if math.isnan(last.sigma):
        return True
    past = [report for report in history if report.step <= last.step - 100]
    if not past:
        return False
    moved = abs(math.log(last.sigma) - math.log(past[-1].sigma))
    return moved <= limits.settled_log_sigma * (last.step - past[-1].step) / 100


def _rising(history: History, limits: Limits) -> bool:
    """Whether the rate grows out of its silence, as that of a late bloomer does."""
    last = history.last
    past = [report for report in history if report.step <= last.step - limits.steps / 2]
    # Far below the limit it moves by factors and means nothing.
    heard = limits.rate_nats / 50 < last.rate_nats < limits.rate_nats
    return bool(past) and heard and last.rate_nats > GROWTH * past[-1].rate_nats


def _lighter(history: History, limits: Limits) -> str:
    """What KL weight to try instead."""
    if _worse(history, history.last):
        return "The decoder is still worse than one constant image: more epochs, or another lr."
    last, latents = history.last, len(history.last.rate_per_latent_nats)

    def norm(beta: float) -> float:
        return beta_to_norm(beta, values=history.values, latents=latents)

    # A cycle may just have begun, at weight 0.
    full = [report.beta / report.kl_weight for report in history if report.kl_weight > 0]
    used = norm(max(full, default=last.beta))
    heard = [
        report.beta
        for report in history
        if not _silent(report, limits) and 0 < report.kl_weight < COMPARABLE_WEIGHT
    ]
    if heard and norm(max(heard)) < used:
        return (
            f"beta_norm {used:.2g} is above the collapse point; the rate was last heard at "
            f"{norm(max(heard)):.2g}: try at most half of that."
        )
    warm_up = "" if history.reports[0].kl_weight_low < COMPARABLE_WEIGHT else ", or a warm-up"
    return f"beta_norm {used:.2g} is too much: try at most {used / 10:.2g}{warm_up}."


def _information(report: EpochReport) -> str:
    told, error = report.mutual_information_nats, report.mutual_information_error_nats
    return "" if told is None else f", mutual information {abs(told):.1g} ± {error or 0:.1g} nats"


def _warming_up(history: History, limits: Limits) -> Verdict | None:
    last = history.last
    if _worse(history, last) and not history.finished:
        return Verdict(
            Kind.WARMING_UP,
            f"still worse than one constant image (explained variance "
            f"{last.explained_variance:.2f}) after {last.step} steps",
        )
    if not history.comparable(last):
        return Verdict(
            Kind.WARMING_UP,
            f"KL weight {last.kl_weight:.2f} of 1 in epoch {last.epoch}; rate "
            f"{last.rate_nats:.3g} nats",
        )
    if _silent(last, limits):
        return Verdict(
            Kind.WARMING_UP,
            f"rate {last.rate_nats:.2g} nats; {_silent_steps(history, limits)} of "
            f"{limits.steps} steps before that counts as a collapse",
        )
    return None


def _recovering(history: History, limits: Limits) -> Verdict | None:
    """Back for less than `limits.steps` from a silence or an explosion."""
    last = history.last
    blown = [report for report in history if _blown_up(history, report)]
    if blown and last.step - blown[-1].step < limits.steps and not _blown_up(history, last):
        return Verdict(
            Kind.RECOVERING,
            f"blew up ({blown[-1].bits_per_dim_calibrated:.3g} bits per dim in epoch "
            f"{blown[-1].epoch}) and is back at {last.bits_per_dim_calibrated:.3g}; "
            f"{_circumstances(last)}",
        )
    silent = [
        report for report in history if _silent(report, limits) and history.comparable(report)
    ]
    if not silent or last.step - silent[-1].step >= limits.steps:
        return None
    if not all(_silent(report, limits) for report in history.reports[: silent[-1].epoch]):
        return Verdict(
            Kind.RECOVERING,
            f"rate {last.rate_nats:.2g} nats, after {silent[-1].rate_nats:.2g} in epoch "
            f"{silent[-1].epoch}",
        )
    return None


def _overfitting(history: History, limits: Limits) -> Verdict | None:
    last = history.last
    fair = [report for report in history if history.comparable(report)]
    best = min(fair, key=_bits)
    lost = _bits(last) - _bits(best)
    gained = _train_nats(best) - _train_nats(last)
    if last.step - best.step < limits.steps or lost < limits.overfit_bits or gained <= 0:
        return None
    return Verdict(
        Kind.OVERFITTING,
        f"validation is {lost:.2g} bits per dim worse than in epoch {best.epoch}, while training "
        f"gained {gained:.3g} nats; the checkpoint of that epoch counts. Fewer epochs, dropout, "
        f"or weight decay.",
    )


def _train_nats(report: EpochReport) -> float:
    return report.train_rate_nats + report.train_distortion_nats


def _healthy(history: History, limits: Limits) -> Verdict:
    best = history.best or history.last
    last = history.last
    latents = len(last.rate_per_latent_nats)
    used = sum(rate >= limits.latent_nats for rate in last.rate_per_latent_nats)
    told = f"{_bits(best):.3f} bits per dim in epoch {best.epoch}; rate {last.rate_nats:.3g} nats"
    if used < latents / 2:
        return Verdict(
            Kind.PARTIALLY_COLLAPSED,
            f"{told}, all of it in {used} of {latents} latents. Normal where the data are told "
            "by few; else a lower beta_norm.",
        )
    return Verdict(Kind.HEALTHY, f"{told}, {last.active_units}/{latents} active units")


def _steps_since(history: History, good: Callable[[EpochReport], bool]) -> int:
    """Steps since the last report that was good; since the beginning if none was."""
    well = [report.step for report in history if good(report)]
    return history.last.step - max(well, default=0)


def _bits(report: EpochReport) -> float:
    proper = not math.isnan(report.bits_per_dim)
    return report.bits_per_dim if proper else report.bits_per_dim_calibrated


def _before(history: History) -> str:
    good = [report for report in history.reports[:-1] if math.isfinite(report.neg_elbo)]
    return f" (rate {good[-1].rate_nats:.3g} nats the epoch before)" if good else ""


def _circumstances(report: EpochReport) -> str:
    told = f"learning rate {report.lr:.3g}"
    if not math.isnan(report.sigma):
        told += f", sigma {report.sigma:.3g}"
    if report.at_bound:
        told += f", {report.at_bound:.0%} of the posterior's log-variances at their bound"
    return told


def _calmer(report: EpochReport) -> str:
    tiny = not math.isnan(report.sigma) and report.sigma < 1e-3
    return "A larger sigma." if tiny else "A lower learning rate, or stronger clipping."
