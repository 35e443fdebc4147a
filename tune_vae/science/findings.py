"""Causes, findings, and a curve as they are read from it: see `diagnosis`."""

import enum
from dataclasses import dataclass

from tune_vae.science.curve import Curve, Reduction, Weight

__all__ = ["Cause", "Finding", "Seen"]

USUAL_LATENTS = 16
"""M where it is not known; a factor of two does not matter."""


class Cause(enum.StrEnum):
    """What is the matter with a training."""

    HEALTHY = "healthy"
    WARM_UP = "KL warm-up, not divergence"
    COLLAPSE = "posterior collapse"
    MEAN_REDUCTION = "a mean instead of a sum"
    FIXED_SCALE = "a decoder scale that is fixed and far too large"
    IMPROPER = "an improper likelihood"
    LEARNING_RATE = "explosion: learning rate"
    INITIALISATION = "explosion: initialisation"
    DATA_SCALE = "explosion: scale of the data"
    NO_REGULARISATION = "missing regularisation"
    OVERFITTING = "overfitting"
    UNDERFITTING = "underfitting"

    @property
    def sound(self) -> bool:
        """Whether there is nothing to mend."""
        return self in (Cause.HEALTHY, Cause.WARM_UP)


@dataclass(frozen=True)
class Finding:
    """One thing that is true of a training.

    Arguments:
        cause: What it is.
        evidence: The numbers that show it, in a sentence.
        remedies: What to try, in the order of likely benefit.
    """

    cause: Cause
    evidence: str
    remedies: tuple[str, ...] = ()


@dataclass(frozen=True)
class Seen:
    """A curve with what was inferred from it."""

    curve: Curve
    weight: Weight | None
    units: Reduction | None

    def last(self, name: str) -> float | None:
        series = self.curve.series(name)
        return series[-1][1] if series else None

    @property
    def course(self) -> list[tuple[float, float]]:
        """The loss by which the training is followed."""
        for name in ("val_loss", "loss", "distortion"):
            series = self.curve.series(name)
            if series:
                return series
        return []

    @property
    def rates_nats(self) -> list[float]:
        """Rates in nats per example, as far as their reduction is known."""
        factor = 1.0
        if self.units is Reduction.MEAN:
            factor = self.curve.latents or USUAL_LATENTS
        return [factor * rate for _, rate in self.curve.series("rate")]

    @property
    def per_value(self) -> list[float]:
        """Distortions per value; empty if N is needed and not known."""
        values = [value for _, value in self.curve.series("distortion")]
        if self.units is not Reduction.SUM:
            return values
        return [value / self.curve.values for value in values] if self.curve.values else []

    @property
    def beta(self) -> float | None:
        """The last KL weight on the scale of sums, if that can be told."""
        if self.weight is None or self.units is None:
            return None
        values, latents = self.curve.values, self.curve.latents
        if self.units is Reduction.SUM:
            return self.weight.last
        if values is None or (self.units is Reduction.MEAN and latents is None):
            return None
        return self.weight.last * values / ((latents or 1) if self.units is Reduction.MEAN else 1)

    @property
    def warming(self) -> bool:
        return self.weight is not None and self.weight.rising
