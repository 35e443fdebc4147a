"""Waiting for a database that does not answer for a while, as when it is started anew."""

import functools
import math
import time
from collections.abc import Callable
from typing import Concatenate, ParamSpec, Protocol, TypeVar

import sqlalchemy
from optuna.exceptions import StorageInternalError

from tune_vae.errors import StorageError
from tune_vae.service import databases
from tune_vae.spec.study import StudySpec

__all__ = ["DATABASE_ERRORS", "Outages", "patient", "unreachable"]

PATIENCE_SECONDS = 300
"""How long a running search waits for a database that does not answer."""

DATABASE_ERRORS = (StorageInternalError, sqlalchemy.exc.SQLAlchemyError)


class Outages:
    """Whether the database of a study answers.

    Arguments:
        spec: The study.
    """

    def __init__(self, spec: StudySpec) -> None:
        self._spec = spec
        self.trouble = ""
        """Why it does not; empty when it does."""
        self._back = -math.inf

    def note(self, error: Exception) -> None:
        """It did not answer."""
        self.trouble = str(self.error(error))

    def note_answer(self) -> None:
        """It did."""
        if self.trouble:
            self.trouble, self._back = "", time.monotonic()

    def over_for(self, seconds: float) -> bool:
        """Whether it has answered for longer than that."""
        return not self.trouble and time.monotonic() > self._back + seconds

    def error(self, error: Exception) -> StorageError:
        """What to tell a user of it."""
        return unreachable(self._spec, error)


class Waiting(Protocol):
    """Who waits for a database."""

    outages: Outages


_S = TypeVar("_S", bound=Waiting)
_P = ParamSpec("_P")
_T = TypeVar("_T")


def patient(method: Callable[Concatenate[_S, _P], _T]) -> Callable[Concatenate[_S, _P], _T]:
    """A method that is repeated while the database does not answer.

    A restart of the database must not look like a fault of the trials that meet it.
    """

    @functools.wraps(method)
    def patient(self: _S, /, *args: _P.args, **options: _P.kwargs) -> _T:
        wait, deadline = 0.25, time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                answer = method(self, *args, **options)
            except DATABASE_ERRORS as error:
                self.outages.note(error)
                if time.monotonic() + wait > deadline:
                    raise self.outages.error(error) from error
            else:
                self.outages.note_answer()
                return answer
            time.sleep(wait)
            wait = min(2 * wait, 10.0)

    return patient


def unreachable(spec: StudySpec, error: Exception) -> StorageError:
    """What to tell a user of a study whose ledger cannot be opened."""
    return databases.unreachable(spec.storage.ledger, "storage.ledger", error)
