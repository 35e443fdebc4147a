"""`results` and `report`: what a study found, also while it is searched."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tune_vae.api.forecasting import forecast_of
from tune_vae.api.models import images_of
from tune_vae.api.places import reports_folder
from tune_vae.api.scouting import scouts_of
from tune_vae.data import Splits
from tune_vae.errors import DataError, StudyError, TrialNotFoundError
from tune_vae.service.results import StudyResults
from tune_vae.service.rows import TrialRow
from tune_vae.spec.study import StudySpec

if TYPE_CHECKING:
    from tune_vae.report.page import Written

__all__ = ["report", "results", "trial_of"]


def results(spec: StudySpec, *, reports: bool = True) -> StudyResults:
    """A study as it stands, also while it is searched.

    Arguments:
        spec: The study.
        reports: Whether the best and the last report of each trial are wanted, which take most
            of the time where there are thousands of trials.

    Raises:
        StudyError: It was never begun.
        StorageError: The ledger cannot be opened.
    """
    from tune_vae.service.ledger import read_study

    found = read_study(spec, reports=reports)
    if found is None:
        raise StudyError(
            f"study `{spec.name}` has not begun: run `tune-vae search {spec.operand}` first"
        )
    rows, foretold = found
    return StudyResults.of(spec, rows, foretold=foretold)


def trial_of(spec: StudySpec, number: int) -> TrialRow:
    """One trial of a study, or a repeat by its number.

    Raises:
        TrialNotFoundError: There is no such trial.
    """
    found = results(spec)
    rows = found.rows
    for row in (*rows, *found.repeats):
        if row.trial == number:
            return row
    known = f"0 to {rows[-1].trial}" if rows else "none"
    raise TrialNotFoundError(f"study `{spec.name}` has no trial {number}; it has {known}")


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
    from tune_vae.service.ledger import read_bounds
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
