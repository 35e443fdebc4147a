"""`check`: what can be known of a study before it runs, measured where it can be."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tune_vae.api.forecasting import forecast_of, foretelling
from tune_vae.api.models import models_of, size_of, sound_data, step_seconds
from tune_vae.api.scouting import scouts_of
from tune_vae.api.searching import decided
from tune_vae.data import Splits
from tune_vae.service.foretold import dead_beyond
from tune_vae.service.results import StudyResults
from tune_vae.service.study_forecast import StudyForecast
from tune_vae.spec.known_good import KnownGood
from tune_vae.spec.study import StudySpec
from tune_vae.spec.trial import TrialConfig

if TYPE_CHECKING:
    from tune_vae.service.stores import StoreReport

__all__ = ["CheckReport", "check"]


@dataclass(frozen=True)
class CheckReport:
    """What `check` found out about a study that can be run.

    Arguments:
        spec: The study.
        data: Its images.
        parameters: Fewest and most parameters of a model in its space.
        memory_bytes: The same for the memory a trial takes beside the data.
        step_seconds: Time of one optimiser step of the first model, measured here.
        seen: Trials of this study that exist already.
        stores: Where the study lives, each tried out.
        dead_beyond: For decoders of which it is known, the least and the largest beta_norm beyond
            which a point is dead by the spectrum of the data and not trained.
        forecast: What the data's spectrum says of the space; None if it was not asked.
        scouts: What scouts found good, to be tried first.
    """

    spec: StudySpec
    data: Splits
    parameters: tuple[int, int]
    memory_bytes: tuple[int, int]
    step_seconds: float
    seen: int
    stores: tuple["StoreReport", ...]
    dead_beyond: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    forecast: StudyForecast | None = None
    scouts: tuple[KnownGood, ...] = ()

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps of an epoch at the smallest batch size of the space."""
        return len(self.data.train) // int(min(self.spec.knobs["batch_size"].examples()))

    @property
    def epoch_seconds(self) -> float:
        return self.step_seconds * self.steps_per_epoch


def check(spec: StudySpec) -> CheckReport:
    """Load the data, build every kind of model, time a few steps, and try out each store.

    Raises:
        StudyFileError: The study is redundant, its trials cannot be compared, or one of its
            models cannot be built for these images; or Optuna does not know its sampler or
            pruner.
        DataError: The data cannot be loaded.
    """
    from tune_vae.service.ledger.looking import read_rows
    from tune_vae.service.stores import try_stores

    data = sound_data(spec)
    stores = try_stores(spec.storage)
    foreseen = forecast_of(spec, data)
    # They lie beside the checkpoints.
    scouts = scouts_of(spec, data) if stores[2].works else []
    spec = decided(spec, foreseen, scouts, begun=stores[0].works)
    configs = models_of(spec, data)
    sizes = [size_of(config) for config in configs]
    # A ledger that does not answer is told among the stores.
    rows = StudyResults.of(spec, (read_rows(spec) if stores[0].works else None) or []).rows
    return CheckReport(
        spec=spec,
        data=data,
        parameters=(min(p for p, _ in sizes), max(p for p, _ in sizes)),
        memory_bytes=(min(m for _, m in sizes), max(m for _, m in sizes)),
        step_seconds=step_seconds(configs[0], data),
        seen=len(rows),
        stores=stores,
        dead_beyond=_dead_beyond(spec, data, configs),
        forecast=replace(foreseen, space=spec.knobs["beta_norm"]),
        scouts=tuple(first for one in scouts if (first := one.first_trial)),
    )


def _dead_beyond(
    spec: StudySpec, data: Splits, models: Sequence[TrialConfig]
) -> dict[str, tuple[float, float]]:
    points, limits = foretelling(spec, data), dict[str, tuple[float, float]]()
    for config in models:
        limit = dead_beyond(config, points, factor=spec.health.foretold)
        if limit is not None:
            low, high = limits.get(config.decoder, (limit, limit))
            limits[config.decoder] = min(low, limit), max(high, limit)
    return limits
