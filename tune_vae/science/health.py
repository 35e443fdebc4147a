"""Judgement of a trial from its history: one kind and one sentence."""

import enum
import math
from dataclasses import dataclass
from typing import ClassVar

from tune_vae.science.history import EpochReport, History

__all__ = ["Kind", "Limits", "Verdict", "judge"]


class Kind(enum.StrEnum):
    """What is true of a trial.

    | kind       | meaning                                                        | ends it |
    |------------|----------------------------------------------------------------|---------|
    | warming_up | the KL weight is not yet full, or the latents have had no time | no      |
    | healthy    | the latents carry information                                  | no      |
    | collapsed  | the rate stays near 0 at the full KL weight                    | yes     |
    | diverged   | loss or gradient not finite, or far beyond a blind guess       | yes     |
    | hopeless   | worse than other trials at the same epoch (the pruner's word)  | yes     |
    | failed     | the machine or the program broke, not the model                | yes     |
    """

    WARMING_UP = "warming_up"
    HEALTHY = "healthy"
    COLLAPSED = "collapsed"
    DIVERGED = "diverged"
    HOPELESS = "hopeless"
    FAILED = "failed"

    @property
    def fatal(self) -> bool:
        """Whether a trial of this kind is stopped."""
        return self not in (Kind.WARMING_UP, Kind.HEALTHY)


@dataclass(frozen=True)
class Verdict:
    """What is true of a trial and the sentence that shows why."""

    kind: Kind
    reason: str


@dataclass(frozen=True)
class Limits:
    """When a trial counts as collapsed or diverged.

    The defaults come from 77 trainings on Fashion-MNIST: a rate below 0.1 nats for 250 steps at
    no less than 95 % of the final beta found 34 of 37 collapses and stopped none of 33 healthy
    trials. Shorter windows stopped late bloomers, which stay near 0 for some 200 steps and rise
    then; a scale that still moves can still free the latents, so it must have settled.

    Arguments:
        rate_nats: A rate below this, in nats per example, carries no information; positive.
        steps: Optimiser steps at the full KL weight that it must stay there; at least 1.
        settled_log_sigma: How much log sigma may move per 100 steps and count as settled.
        blind_factor: A trial whose bits per dim exceed a uniform guess by this factor has
            exploded; above 1.
        blind_steps: Optimiser steps before that is asked; at least 0.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    rate_nats: float = 0.1
    steps: int = 250
    settled_log_sigma: float = 0.02
    blind_factor: float = 30.0
    blind_steps: int = 100

    def __post_init__(self) -> None:
        for name, low in (("rate_nats", 0.0), ("steps", 0), ("blind_factor", 1.0)):
            if not getattr(self, name) > low:
                raise ValueError(f"{name} must be above {low:g}, got {getattr(self, name)}")
        for name in ("settled_log_sigma", "blind_steps"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")


def judge(history: History, limits: Limits) -> Verdict:
    """The verdict on a trial after its latest epoch. A pure function.

    Arguments:
        history: At least one report.
        limits: When to call a trial collapsed or diverged.
    """
    return (
        _diverged(history, limits)
        or _collapsed(history, limits)
        or _warming_up(history, limits)
        or _healthy(history)
    )


def _diverged(history: History, limits: Limits) -> Verdict | None:
    last = history.last
    if not (last.finite and math.isfinite(last.neg_elbo)):
        return Verdict(
            Kind.DIVERGED,
            f"loss not finite in epoch {last.epoch}{_before(history)}; "
            f"learning rate {last.lr:.3g}{_sigma(last)}. {_calmer(last)}",
        )
    steps_per_epoch = last.step // last.epoch
    if last.skipped >= steps_per_epoch:
        return Verdict(
            Kind.DIVERGED,
            f"gradient not finite in any step of epoch {last.epoch}; "
            f"learning rate {last.lr:.3g}{_sigma(last)}. {_calmer(last)}",
        )
    bits, blind = _bits(last), _blind_bits(history)
    if last.step >= limits.blind_steps and bits > limits.blind_factor * blind:
        return Verdict(
            Kind.DIVERGED,
            f"{bits:.3g} bits per dim in epoch {last.epoch}, where a blind guess costs "
            f"{blind:.3g}; learning rate {last.lr:.3g}{_sigma(last)}. {_calmer(last)}",
        )
    return None


def _blind_bits(history: History) -> float:
    """Bits per dim of a model that has learned nothing."""
    if history.levels:
        return math.log2(history.levels)
    # Of counts there is no even guess; no model is worse at its best than at its beginning.
    return min((_bits(report) for report in history), default=math.inf)


def _collapsed(history: History, limits: Limits) -> Verdict | None:
    last = history.last
    if last.rate_nats >= limits.rate_nats or not history.comparable(last):
        return None
    steps = _quiet_steps(history, limits)
    # At the end nothing can change any more, so a shorter look must do.
    if not history.finished and (steps < limits.steps or not _settled(history, limits)):
        return None
    return Verdict(
        Kind.COLLAPSED,
        f"latents unused: rate {last.rate_nats:.2g} nats after {steps} steps at the full KL "
        f"weight, {last.active_units}/{len(last.rate_per_latent_nats)} active units "
        f"(beta {last.beta:.3g}). Lower beta_norm, or a smaller sigma.",
    )


def _quiet_steps(history: History, limits: Limits) -> int:
    """Steps at the full KL weight since the rate was last seen to carry information."""
    quiet = 0
    for index in reversed(range(len(history))):
        report = history.reports[index]
        if not history.comparable(report) or report.rate_nats >= limits.rate_nats:
            break
        start = history.reports[index - 1].step if index else 0
        quiet += report.step - start
    return quiet


def _settled(history: History, limits: Limits) -> bool:
    last = history.last
    if math.isnan(last.sigma):
        return True
    past = [report for report in history if report.step <= last.step - 100]
    if not past:
        return False
    moved = abs(math.log(last.sigma) - math.log(past[-1].sigma))
    return moved <= limits.settled_log_sigma * (last.step - past[-1].step) / 100


def _warming_up(history: History, limits: Limits) -> Verdict | None:
    last = history.last
    if not history.comparable(last):
        return Verdict(
            Kind.WARMING_UP,
            f"KL weight {last.kl_weight:.2f} of 1 in epoch {last.epoch}; rate "
            f"{last.rate_nats:.3g} nats",
        )
    if last.rate_nats < limits.rate_nats:
        return Verdict(
            Kind.WARMING_UP,
            f"rate {last.rate_nats:.2g} nats; {_quiet_steps(history, limits)} of "
            f"{limits.steps} steps before that counts as a collapse",
        )
    return None


def _healthy(history: History) -> Verdict:
    best = history.best or history.last
    last = history.last
    return Verdict(
        Kind.HEALTHY,
        f"{_bits(best):.3f} bits per dim in epoch {best.epoch}; rate {last.rate_nats:.3g} nats, "
        f"{last.active_units}/{len(last.rate_per_latent_nats)} active units",
    )


def _bits(report: EpochReport) -> float:
    proper = not math.isnan(report.bits_per_dim)
    return report.bits_per_dim if proper else report.bits_per_dim_calibrated


def _before(history: History) -> str:
    good = [report for report in history.reports[:-1] if math.isfinite(report.neg_elbo)]
    return f" (rate {good[-1].rate_nats:.3g} nats the epoch before)" if good else ""


def _sigma(report: EpochReport) -> str:
    return "" if math.isnan(report.sigma) else f", sigma {report.sigma:.3g}"


def _calmer(report: EpochReport) -> str:
    tiny = not math.isnan(report.sigma) and report.sigma < 1e-3
    return "A larger sigma." if tiny else "A lower learning rate, or stronger clipping."
