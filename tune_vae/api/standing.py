"""`results`: how a study stands, also while it is searched. Answers without importing torch."""

from tune_vae.errors import StudyError, TrialNotFoundError
from tune_vae.service.results import StudyResults
from tune_vae.service.rows import TrialRow
from tune_vae.spec.study import StudyOutline

__all__ = ["results", "trial_of"]


def results(spec: StudyOutline, *, reports: bool = True) -> StudyResults:
    """A study as it stands, also while it is searched.

    Arguments:
        spec: The study, or its outline.
        reports: Whether the best and the last report of each trial are wanted, which take most
            of the time where there are thousands of trials.

    Raises:
        StudyError: It was never begun.
        StorageError: The ledger cannot be opened.
    """
    from tune_vae.service.ledger.looking import read_study

    found = read_study(spec, reports=reports)
    if found is None:
        raise StudyError(
            f"study `{spec.name}` has not begun: run `tune-vae search {spec.operand}` first"
        )
    rows, foretold = found
    return StudyResults.of(spec, rows, foretold=foretold)


def trial_of(spec: StudyOutline, number: int) -> TrialRow:
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
