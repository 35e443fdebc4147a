"""What is known of a trial: one report per epoch."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

__all__ = ["COMPARABLE_WEIGHT", "OBJECTIVES", "EpochReport", "History", "Rollback"]

OBJECTIVES = {
    "bits_per_dim": "rate + distortion as probability mass of the quantised data",
    "bits_per_dim_calibrated": "the same for the decoder's mean under one fitted Gaussian",
    "neg_elbo": "rate + distortion as the likelihood states it, nats",
    "rate_nats": "KL of the posterior from the prior",
    "distortion_nats": "negative log-likelihood as the likelihood states it",
    "mse": "squared error per data value",
    "sample_distance": "Fréchet distance of prior samples from held-out examples",
    "probe_error": "share of held-out examples whose class a linear probe gets wrong",
}
"""What a study may minimise. All are fields of `EpochReport`, measured on validation images at
beta = 1."""

COMPARABLE_WEIGHT = 0.95


@dataclass(frozen=True)
class EpochReport:
    """One epoch of one trial. Validation numbers are at beta = 1 with noise fixed by seed.

    Arguments:
        trial: Number of the trial.
        epoch: Epochs done, from 1.
        step: Optimiser steps done; in an epoch whose loss is lost, those until then.
        kl_weight: Schedule value at the last step of the epoch, in [0, 1].
        kl_weight_low: The lowest schedule value within the epoch.
        beta: Effective KL weight beta·w at the last step.
        lr: Learning rate, halved by each rollback.
        train_rate_nats, train_distortion_nats: Means over the epoch's batches.
        grad_norm: Largest finite gradient norm of the epoch, before clipping.
        skipped: Steps whose gradient was not finite and which were therefore left out.
        finite: Whether every loss was finite, in this epoch and in those before.
        rate_nats, distortion_nats, neg_elbo: Validation, nats per example.
        rate_per_latent_nats: Validation rate of each latent.
        mse: Validation squared error per data value.
        bits_per_dim: Validation rate + distortion as mass; NaN when improper.
        bits_per_dim_calibrated: The same under the calibrated Gaussian.
        active_units: Latents with Var_x(E[z|x]) > 0.01 on validation images.
        sigma: Scale of the decoder; NaN without one.
        seconds: Wall time of the epoch, shared by the members of its pack.
        sample_distance, probe_error: See `Appraisal`; None unless the study searches for them.
        full_steps: Steps of the epoch that had (nearly) the full KL weight.
        kl_weight_ahead: The lowest schedule value still to come; 1 after the last epoch.
        lost_step: The step at which the loss was first not finite, if it lies in this epoch.
        explained_variance, mutual_information_nats, mutual_information_error_nats,
            decoder_sensitivity, mean_variance, at_bound: See `Signals`.
        spectral_peak: Of the data; see the function of this name.
        rollbacks: How often the trial was rolled back before this epoch; see `Rollback`.
        ended_at: When the epoch ended, seconds since 1970. Two runs of one epoch are equal
            whenever they took place.

    What an earlier version did not measure, or what has no finite value, is None.
    """

    trial: int
    epoch: int
    step: int
    kl_weight: float
    kl_weight_low: float
    beta: float
    lr: float
    train_rate_nats: float
    train_distortion_nats: float
    grad_norm: float
    skipped: int
    finite: bool
    rate_nats: float
    distortion_nats: float
    neg_elbo: float
    rate_per_latent_nats: tuple[float, ...]
    mse: float
    bits_per_dim: float
    bits_per_dim_calibrated: float
    active_units: int
    sigma: float
    seconds: float
    sample_distance: float | None = None
    probe_error: float | None = None
    full_steps: int | None = None
    kl_weight_ahead: float | None = None
    lost_step: int | None = None
    explained_variance: float | None = None
    mutual_information_nats: float | None = None
    mutual_information_error_nats: float | None = None
    decoder_sensitivity: float | None = None
    mean_variance: float | None = None
    at_bound: float | None = None
    spectral_peak: float | None = None
    rollbacks: int = 0
    ended_at: float | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        # Reports come back from checkpoints as plain dictionaries with lists.
        object.__setattr__(self, "rate_per_latent_nats", tuple(self.rate_per_latent_nats))

    @property
    def comparable(self) -> bool:
        """Whether the schedule let the KL term weigh in fully through this epoch.

        Under a warm-up the numbers at beta = 1 describe a model that was trained for another
        beta; they are compared with nothing.
        """
        return self.kl_weight_low >= COMPARABLE_WEIGHT

    @property
    def lost(self) -> bool:
        """Whether a loss was not finite, in training or in validation."""
        return not (self.finite and math.isfinite(self.neg_elbo))

    def value(self, objective: str) -> float:
        """The objective's value, smaller is better; see `OBJECTIVES`."""
        value = getattr(self, objective)
        return math.nan if value is None else float(value)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint or a message."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "EpochReport":
        """The inverse of `to_dict`; keys of a later version are left out."""
        known = {f.name for f in fields(cls)}
        return cls(**{key: value for key, value in values.items() if key in known})


@dataclass(frozen=True)
class Rollback:
    """A trial was lost, and went on from an earlier epoch at a lower learning rate.

    Arguments:
        step: Optimiser step at which the loss was first not finite; None if that was only in
            validation.
        epoch: The epoch in which it was lost, from 1. It counts as not run.
        resumed: The epoch after which it went on; 0 for the untrained weights.
        lr_before, lr_after: Learning rates.

    Example:
        >>> str(Rollback(step=153, epoch=7, resumed=6, lr_before=0.1, lr_after=0.05))
        'lost at step 153 in epoch 7, lr 0.1 → 0.05, went on from epoch 6'
    """

    step: int | None
    epoch: int
    resumed: int
    lr_before: float
    lr_after: float

    def __str__(self) -> str:
        at = f" at step {self.step}" if self.step else ""
        whence = f"went on from epoch {self.resumed}" if self.resumed else "began again"
        lr = f"lr {self.lr_before:.3g} → {self.lr_after:.3g}"
        return f"lost{at} in epoch {self.epoch}, {lr}, {whence}"


@dataclass
class History:
    """Reports of one trial, in the order of their epochs.

    Arguments:
        epochs: Epochs the trial is to run.
        values: N, data values of one example.
        levels: Grey levels of the data; None for counts.
        objective: Which number is to be minimised; None when there are several.
        reports: One per epoch.
        rollbacks: What it took to get here.
    """

    epochs: int
    values: int
    levels: int | None
    objective: str | None
    reports: list[EpochReport] = field(default_factory=list)
    rollbacks: Sequence[Rollback] = ()

    def add(self, report: EpochReport) -> "History":
        """This history, one epoch longer.

        Raises:
            ValueError: The report is not of the next epoch.
        """
        if report.epoch != len(self.reports) + 1:
            raise ValueError(f"expected epoch {len(self.reports) + 1}, got {report.epoch}")
        self.reports.append(report)
        return self

    def extend(self, reports: Iterable[EpochReport]) -> "History":
        for report in reports:
            self.add(report)
        return self

    def until(self, epoch: int) -> "History":
        """This history as it was after an epoch."""
        return replace(self, reports=self.reports[:epoch])

    def __len__(self) -> int:
        return len(self.reports)

    def __iter__(self) -> Iterator[EpochReport]:
        return iter(self.reports)

    @property
    def last(self) -> EpochReport:
        return self.reports[-1]

    @property
    def finished(self) -> bool:
        """Whether all epochs were run."""
        return len(self.reports) >= self.epochs

    def comparable(self, report: EpochReport) -> bool:
        """Whether a report may be compared with other trials'.

        The last epoch always may: there every schedule has reached its full weight.
        """
        return report.comparable or report.epoch == self.epochs

    @property
    def best(self) -> EpochReport | None:
        """The comparable report of the lowest finite objective value, the first among equals.

        With several objectives no epoch is best: the latest counts. The one of the lowest rate,
        for instance, is often the first, in which nothing was learned yet.
        """
        objective = self.objective or "neg_elbo"
        scored = [
            report
            for report in self.reports
            if self.comparable(report) and math.isfinite(report.value(objective))
        ]
        if self.objective is None:
            return scored[-1] if scored else None
        return min(scored, key=lambda report: report.value(objective), default=None)
