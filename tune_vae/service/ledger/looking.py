"""What a study looks like to somebody who does not join it, and needs no Optuna for that."""

import contextlib
import gc
from collections.abc import Callable, Iterator
from typing import TypeVar

import sqlalchemy
from sqlalchemy.exc import SQLAlchemyError

from tune_vae.service import databases
from tune_vae.service.reading import REPORTS, plain_fact, plain_rows
from tune_vae.service.rows import TrialRow, is_foretold, table
from tune_vae.spec.study import StudyOutline

__all__ = ["data_digest", "name_of_repeats", "read_bounds", "read_rows", "read_study"]

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
        with _without_collector():
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
    digest: str | None = _look(spec, lambda engine: plain_fact(engine, spec.name, "data"))
    return digest


def read_bounds(spec: StudyOutline) -> tuple[float, float] | None:
    """What `beta_norm: auto` came to when a study began; None if it never did.

    Raises:
        StorageError: The storage cannot be opened.
    """
    bounds = _look(spec, lambda engine: plain_fact(engine, spec.name, "bounds"))
    return (bounds[0], bounds[1]) if bounds else None


def name_of_repeats(spec: StudyOutline) -> str:
    """Of the study that they are rows of."""
    # A slash is in no study's name.
    return f"{spec.name}/repeats"


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    """Nearly all that is read is kept; looking for what is not takes a quarter of the time."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def _look(spec: StudyOutline, at: Callable[[sqlalchemy.Engine], _T | None]) -> _T | None:
    url = spec.storage.ledger
    try:
        # What is missing is not created, lest a search that is creating it be disturbed; this is
        # the last of Optuna's tables.
        if not databases.has_table(url, "alembic_version"):
            return None
        with databases.opened(url) as engine:
            return at(engine)
    except (SQLAlchemyError, ImportError, ValueError) as error:
        raise databases.unreachable(url, "storage.ledger", error) from None
