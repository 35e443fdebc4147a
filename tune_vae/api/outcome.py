"""`report`: what a study found, also while it is searched."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tune_vae.api.forecasting import forecast_of
from tune_vae.api.models import images_of
from tune_vae.api.places import reports_folder
from tune_vae.api.scouting import scouts_of
from tune_vae.api.standing import results
from tune_vae.data import Splits
from tune_vae.errors import DataError
from tune_vae.service.results import StudyResults
from tune_vae.spec.study import StudySpec

if TYPE_CHECKING:
    from tune_vae.report.page import Written

__all__ = ["report"]


def report(
    spec: StudySpec, to: Path | None = None, found: StudyResults | None = None
) -> tuple["Written", str]:
    """Write what a study found as one page with pictures, also while it is searched.

    Arguments:
        spec: The study.
        to: Folder of the page; by default `reports/<study>` beside the checkpoints' folder.
        found: What it found, if that was read already.

    Returns:
        What was written, and why MLflow did not take a copy; empty if it did.

    Raises:
        StudyError: The study was never begun.
        StorageError: The ledger cannot be opened, or the folder not written.
    """
    from tune_vae.report.evidence import gather
    from tune_vae.report.page import write
    from tune_vae.service.ledger.looking import read_bounds
    from tune_vae.service.tracking import attach_report

    if spec.undecided:
        bounds = read_bounds(spec)
        spec = spec.with_bounds(*bounds) if bounds else spec
    evidence = gather(spec, found or results(spec))
    try:
        data: Splits | None = images_of(spec)
    except DataError:
        # They may lie on another machine; all else can be shown.
        data = None
    if data is not None:
        seen = tuple(scouts_of(spec, data))
        foreseen = forecast_of(spec, data, critical=False)
        evidence = replace(evidence, forecast=foreseen, scouts=seen)
    written = write(evidence, data, to or reports_folder(spec))
    return written, attach_report(spec, [written.page, *written.pictures], written.summary)
