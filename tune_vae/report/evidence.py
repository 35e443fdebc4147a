"""What a report is made of: the rows of the ledger, and the reports that checkpoints hold."""

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tune_vae.errors import TuneVaeError
from tune_vae.science.health import Kind
from tune_vae.science.history import EpochReport, History
from tune_vae.science.units import bits_per_dim
from tune_vae.science.vae import VAE
from tune_vae.service.journey import describes, history_of
from tune_vae.service.results import StudyResults
from tune_vae.service.rows import TrialRow
from tune_vae.service.scouted import Scouted
from tune_vae.service.study_forecast import StudyForecast
from tune_vae.spec.study import StudySpec
from tune_vae.training.checkpoint import CheckpointStore
from tune_vae.training.trainer import restored_vae

__all__ = ["GROUPS", "Evidence", "gather", "group_name", "noun"]

GROUPS: tuple[tuple[Kind, ...], ...] = (
    tuple(kind for kind in Kind if not kind.fatal),
    (Kind.HOPELESS,),
    (Kind.COLLAPSED, Kind.NEVER_FORMED),
    (Kind.EXPLODING, Kind.DIVERGED, Kind.STALLED),
    (Kind.FAILED,),
)
"""Ends that are shown together."""


@dataclass(frozen=True)
class Evidence:
    """A study with the curves of its trials.

    Arguments:
        spec: The study.
        results: Its rows.
        histories: By trial, of those whose checkpoint can be read; a running one's so far.
        model: Gives a trial's model at its best epoch, or at its last if it has none; None
            without a checkpoint.
        forecast: What the data's spectrum says of the study; None without the data.
        scouts: Curves that were seen before the search.
    """

    spec: StudySpec
    results: StudyResults
    histories: Mapping[int, History] = field(default_factory=dict)
    model: Callable[[TrialRow], VAE | None] = lambda row: None
    forecast: StudyForecast | None = None
    scouts: tuple[Scouted, ...] = ()

    @property
    def finished(self) -> list[TrialRow]:
        """Finished trials with finite values, the best first objective first."""
        return [row for row in self.results.best(len(self.results.rows)) if all_finite(row.values)]

    @property
    def subject(self) -> TrialRow | None:
        """Whom pictures are of: the winner, else the knee of a front, else its first."""
        front = self.results.front
        return self.results.winner or self.results.knee or (front[0] if front else None)

    @property
    def proper(self) -> bool:
        """Whether the bits of every finished trial are those of its own likelihood."""
        reports = [row.best for row in self.finished if row.best]
        return all(math.isfinite(report.bits_per_dim) for report in reports)

    def bits(self, report: EpochReport) -> float:
        """Bits per dim in the currency that all finished trials have."""
        return report.bits_per_dim if self.proper else report.bits_per_dim_calibrated

    def distortion_bits(self, row: TrialRow, report: EpochReport) -> float:
        """The same without the rate."""
        return self.bits(report) - bits_per_dim(report.rate_nats, row.config.values)

    def group(self, kinds: Sequence[Kind]) -> list[TrialRow]:
        """Ended trials of some kinds."""
        return [row for row in self.results.ended if row.kind in kinds]


def gather(spec: StudySpec, results: StudyResults) -> Evidence:
    """Read what the checkpoints of a study hold; what cannot be read is left out."""
    store = CheckpointStore(spec.storage.checkpoints, spec.name)

    def own(row: TrialRow, state: dict[str, Any] | None) -> dict[str, Any] | None:
        return state if state and describes(state["config"], row.config) else None

    def model(row: TrialRow) -> VAE | None:
        best = own(row, store.best(row.trial, row.best.epoch)) if row.best else None
        state = best or own(row, store.last(row.trial))
        # Code of the user's own may be gone or changed since.
        with contextlib.suppress(TuneVaeError, ValueError, RuntimeError):
            return restored_vae(row.config.member(), row.config.shape, state) if state else None
        return None

    states = ((row, own(row, store.last(row.trial))) for row in results.rows)
    histories = {row.trial: history_of(row.config, state) for row, state in states if state}
    return Evidence(spec, results, histories, model)


def all_finite(values: Sequence[float]) -> bool:
    """Whether there are values and all are finite."""
    return bool(values) and all(map(math.isfinite, values))


def group_name(rows: Sequence[TrialRow]) -> str:
    """How some trials of one group ended, in words: `collapsed or never formed`."""
    if rows[0].finished:
        return "ran to the end"
    kinds = sorted({Kind(row.kind) for row in rows}, key=list(Kind).index)
    return " or ".join(kind.value.replace("_", " ") for kind in kinds)


def noun(objective: str) -> str:
    """An objective in words."""
    return _NOUNS.get(objective, objective.replace("_", " "))


_NOUNS = {
    "bits_per_dim": "bits per dim",
    "bits_per_dim_calibrated": "calibrated bits per dim",
    "neg_elbo": "negative elbo, nats",
    "rate_nats": "rate, nats",
    "distortion_nats": "distortion, nats",
    "mse": "squared error per value",
}
