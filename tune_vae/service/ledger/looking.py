"""What a study looks like to somebody who does not join it."""

from collections.abc import Callable
from typing import TypeVar

import optuna
import sqlalchemy

from tune_vae.service import databases
from tune_vae.service.ledger.open_study import name_of_repeats, storage_at
from tune_vae.service.ledger.patience import DATABASE_ERRORS, unreachable
from tune_vae.service.reading import REPORTS, plain_rows
from tune_vae.service.rows import TrialRow, is_foretold, table
from tune_vae.spec.study import StudyOutline

__all__ = ["data_digest", "read_bounds", "read_rows", "read_study"]

_T = TypeVar("_T")


def read_rows(spec: StudyOutline) -> list[TrialRow] | None:
    """The trials of a study, without joining it; None when it was never begun.

    Raises:
        StorageError: The storage cannot be opened.
    """
    found = read_study(spec)
    return found and found[0]


def read_study(spec: StudyOutline, *, reports: bool = True) -> tuple[list[TrialRow], int] | None:
    """The trials of a study and how many points were drawn and not trained, without joining it.

    Arguments:
        spec: The study.
        reports: Whether the trials' reports are wanted, which take most of the time.

    Returns:
        None when it was never begun.

    Raises:
        StorageError: The storage cannot be opened.
    """

    def read(engine: sqlalchemy.Engine) -> tuple[list[TrialRow], int] | None:
        without = () if reports else REPORTS
        rows = plain_rows(engine, spec.name, without=without)
        if rows is None:
            return None
        repeats = plain_rows(engine, name_of_repeats(spec), without=without) or []
        return table(rows) + table(repeats), sum(map(is_foretold, rows))

    return _look(spec, read)


def data_digest(spec: StudyOutline) -> str | None:
    """Fingerprint of the data that a study was begun with; None when it never was.

    Raises:
        StorageError: The storage cannot be opened.
    """
    return _look_at_study(spec, lambda study: study.user_attrs.get("data"))


def read_bounds(spec: StudyOutline) -> tuple[float, float] | None:
    """What `beta_norm: auto` came to when a study began; None if it never did.

    Raises:
        StorageError: The storage cannot be opened.
    """
    bounds = _look_at_study(spec, lambda study: study.user_attrs.get("bounds"))
    return (bounds[0], bounds[1]) if bounds else None


def _look_at_study(spec: StudyOutline, at: Callable[[optuna.Study], _T]) -> _T | None:
    def look(_: sqlalchemy.Engine) -> _T:
        return at(optuna.load_study(study_name=spec.name, storage=storage_at(spec.storage.ledger)))

    return _look(spec, look)


def _look(spec: StudyOutline, at: Callable[[sqlalchemy.Engine], _T | None]) -> _T | None:
    try:
        # Optuna would create what is missing, and disturb a search that is creating it; this is
        # the last of its tables.
        if not databases.has_table(spec.storage.ledger, "alembic_version"):
            return None
        with databases.opened(spec.storage.ledger) as engine:
            return at(engine)
    except KeyError:
        return None
    except (*DATABASE_ERRORS, ImportError, ValueError) as error:
        raise unreachable(spec, error) from None
