"""`scout`: one training for all beta, of the decoders that no forecast is known for."""

import time
from collections.abc import Sequence
from pathlib import Path

from tune_vae.api.forecasting import forecast_of, spread
from tune_vae.api.models import models_of, sound_data
from tune_vae.api.places import reports_folder, write_chart
from tune_vae.data import Splits, scale
from tune_vae.data.progress import Progress
from tune_vae.errors import StorageError, StudyError
from tune_vae.science.collapse_point import spectral_peak
from tune_vae.service.results import StudyResults
from tune_vae.service.rows import TrialRow
from tune_vae.service.scouted import LOWEST_BETA, Scouted, keep, recall, scouting
from tune_vae.spec import components
from tune_vae.spec.study import StudySpec
from tune_vae.spec.trial import TrialConfig
from tune_vae.training.scout import scout as scout_along

__all__ = ["scout", "scouts_of"]


def scout(
    spec: StudySpec,
    likelihood: str = "",
    to: Path | None = None,
    *,
    device: str = "cpu",
) -> tuple[list[Scouted], Path | None]:
    """Train one network for all β, for each decoder without a forecast, and keep its curve.

    What was scouted before of the same data and settings is not trained again.

    Arguments:
        spec: The study.
        likelihood: Scout the decoders of this one instead, forecast or not.
        to: Folder of the chart; see `forecast`.
        device: Where to train.

    Returns:
        A curve for each decoder, and the chart of them beside forecast and measured trials.

    Raises:
        StudyFileError, DataError: See `check`.
        StudyError: The study has no such likelihood, or a forecast for all decoders.
        StorageError: Checkpoints or chart cannot be written.
    """
    from tune_vae.report.foresight import foresight

    data = sound_data(spec)
    foreseen = forecast_of(spec, data, critical=data.levels is not None)
    wanted = _to_scout(spec, data)
    names = [components.split(config.likelihood)[0] for config in wanted]
    if likelihood:
        wanted = [one for one, name in zip(wanted, names, strict=True) if name == likelihood]
    else:
        wanted = [one for one in wanted if one.decoder in foreseen.unknown]
    if not wanted:
        known = ", ".join(dict.fromkeys(names))
        raise StudyError(
            f"the study has no likelihood `{likelihood}`; it has {known}"
            if likelihood
            else "every decoder of the study has a forecast; scout one all the same with "
            f"--likelihood, one of: {known}"
        )
    digest, found = data.digest(conditional=spec.conditional), []
    for config in wanted:
        seen = recall(spec, config, digest)
        found.append(seen or _scouted(spec, config, data, digest, device))
    picture = foresight(foreseen, found, _known_rows(spec))
    return found, write_chart(picture, to or reports_folder(spec))


def _scouted(
    spec: StudySpec, config: TrialConfig, data: Splits, digest: str, device: str
) -> Scouted:
    start = time.perf_counter()
    member = config.member()
    with Progress(f"scouting {config.decoder}", config.epochs) as progress:
        curve, state = scout_along(
            member,
            data,
            LOWEST_BETA,
            member.beta,
            device=device,
            on_epoch=lambda epoch: progress.advance(1),
        )
    seen = Scouted(config, digest, curve, time.perf_counter() - start)
    keep(spec, seen, state)
    return seen


def _to_scout(spec: StudySpec, data: Splits) -> list[TrialConfig]:
    """What a scout of each decoder would train: the first network of each."""
    peak = spectral_peak(scale(spread(data), data.levels))
    lrs = [float(lr) for lr in spec.knobs["lr"].examples()]
    found: dict[tuple[str, int], TrialConfig] = {}
    for config in models_of(spec, data):
        chosen = scouting(config, peak=peak.item(), lrs=lrs)
        found.setdefault((config.decoder, config.latent_dim), chosen)
    return list(found.values())


def scouts_of(spec: StudySpec, data: Splits) -> list[Scouted]:
    """What scouts have seen of a study so far."""
    digest = data.digest(conditional=spec.conditional)
    seen = (recall(spec, config, digest) for config in _to_scout(spec, data))
    return [one for one in seen if one]


def _known_rows(spec: StudySpec) -> Sequence[TrialRow]:
    """Trials of a study; none if it has not begun or its ledger does not answer."""
    from tune_vae.service.ledger.looking import read_rows

    try:
        return StudyResults.of(spec, read_rows(spec) or []).rows
    except StorageError:
        return []
