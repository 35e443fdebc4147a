"""`forecast`: what the spectrum of the data says of a study before anything is trained."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from torch import Tensor

from tune_vae.api.models import models_of, sound_data
from tune_vae.api.places import reports_folder, write_chart
from tune_vae.data import Splits, scale
from tune_vae.data.progress import Progress
from tune_vae.science.collapse_point import EXAMPLES, CollapsePoints, collapse_points
from tune_vae.science.critical_beta import CriticalBeta, critical_beta
from tune_vae.science.spectrum import spectrum
from tune_vae.service.foretold import dead_beyond
from tune_vae.service.study_forecast import StudyForecast, critical_key
from tune_vae.spec import components
from tune_vae.spec.study import StudySpec
from tune_vae.spec.trial import TrialConfig

__all__ = ["collapse_points_of", "forecast", "forecast_of", "foretelling", "spread"]

FORECAST_EXAMPLES = 10_000
"""Most examples that a forecast looks at: their eigenvalues are then known to some percent."""
FORECAST_DIRECTIONS = 128
"""Eigenvalues that it knows at least, where there are so many."""


def forecast(spec: StudySpec, to: Path | None = None) -> tuple[StudyForecast, Path | None]:
    """What the spectrum of the data says of a study before anything is trained.

    Arguments:
        spec: The study.
        to: Folder of the chart; by default `reports/<study>` beside the checkpoints' folder.

    Returns:
        The forecast, and the chart of its rate and distortion if any decoder has one.

    Raises:
        StudyFileError, DataError: See `check`.
        StorageError: The folder cannot be written.
    """
    from tune_vae.report.foresight import foresight

    found = forecast_of(spec, sound_data(spec))
    return found, write_chart(foresight(found), to or reports_folder(spec))


def forecast_of(spec: StudySpec, data: Splits, *, critical: bool = True) -> StudyForecast:
    """The same of data that are at hand, and without a chart.

    Arguments:
        spec: The study.
        data: Its data.
        critical: Whether critical betas are worth their time: some seconds for each decoder of
            levels, up to a minute for one of counts.
    """
    points = collapse_points_of(spec, data)
    # A few, where no decoder has a forecast.
    x_nCHW = spread(data, FORECAST_EXAMPLES if points else 100)
    latents = max(int(size) for size in spec.knobs["latent_dim"].examples())

    def batches() -> Iterator[Tensor]:
        with Progress("looking at the data", len(x_nCHW)) as progress:
            for start in range(0, len(x_nCHW), 512):
                yield scale(x_nCHW[start : start + 512], data.levels)
                progress.advance(len(x_nCHW[start : start + 512]))

    found = spectrum(batches(), max(latents, FORECAST_DIRECTIONS))
    at_ends = (x_nCHW == 0) | (x_nCHW == (data.levels or 0) - 1)
    edge, configs = int(at_ends.sum()) / x_nCHW.numel(), models_of(spec, data)
    betas = _critical_betas(configs, points, data) if critical else {}
    space = spec.knobs["beta_norm"]
    return StudyForecast.of(spec.name, space, configs, points, found, edge, betas)


def _critical_betas(
    configs: Sequence[TrialConfig], points: CollapsePoints | None, data: Splits
) -> dict[str, CriticalBeta]:
    """Of the decoders that have no collapse point."""
    x_nCHW = scale(spread(data), data.levels)
    found: dict[str, CriticalBeta] = {}
    for config in configs:
        key, known = critical_key(config), dead_beyond(config, points, factor=1.0) is not None
        if key and not known and key not in found:
            sigma = components.build("sigma", config.sigma) if config.sigma else None
            likelihood = components.build("likelihood", config.likelihood)
            found[key] = critical_beta(x_nCHW, likelihood, sigma)
    return found


def foretelling(spec: StudySpec, data: Splits) -> CollapsePoints | None:
    """The collapse points by which a study passes over what is dead; None if it does not."""
    return collapse_points_of(spec, data) if spec.health.foretold else None


def collapse_points_of(spec: StudySpec, data: Splits) -> CollapsePoints | None:
    """Of a study's data, if its likelihoods can have any."""
    if spec.conditional or data.levels is None:
        return None
    return collapse_points(scale(spread(data), data.levels))


def spread(data: Splits, most: int = EXAMPLES) -> Tensor:
    """At most so many training examples, from everywhere, because they may be sorted."""
    return data.train[:: math.ceil(len(data.train) / most)]
