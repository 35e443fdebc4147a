"""The errors a user can meet, each with the exit code that the command line gives it."""

import re
from dataclasses import dataclass
from typing import ClassVar

__all__ = [
    "CheckpointError",
    "DataError",
    "ExportError",
    "Problem",
    "Remark",
    "StorageError",
    "StudyError",
    "StudyFileError",
    "TrialNotFoundError",
    "TuneVaeError",
    "masked",
]

_SECRETS = (
    # A password may hold anything but a space: what ends it is the last @ of the word.
    re.compile(r"(:/+[^\s:/@]*:)\S+(?=@)"),
    re.compile(
        r"([?&;][^\s=&]*(?:password|passwd|pwd|secret|token|credential|signature|api_?key)[^\s=&]*=)"
        r"[^\s&;'\"]+",
        re.IGNORECASE,
    ),
)


def masked(text: str) -> str:
    """A text without the passwords of the URLs in it.

    Example:
        >>> masked("cannot reach postgresql://me:hunter2@host/db?sslpassword=x now")
        'cannot reach postgresql://me:***@host/db?sslpassword=*** now'
    """
    for secret in _SECRETS:
        text = secret.sub(r"\1***", text)
    return text


class Remark(UserWarning):
    """What a person should know of a training that goes on; a search shows it once."""


class TuneVaeError(Exception):
    """Something a user can mend. The message says what was given, what is allowed, what to do."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str = "") -> None:
        super().__init__(masked(message))


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a study file.

    Arguments:
        message: What was given and what is allowed.
        path: Keys and list positions from the root of the file to the place.
        tip: What to do, or the empty string.
        on_key: Whether the fault is in the key at `path` rather than in its value.
        line, column, width: Position in the file, from 1, and how many characters to underline;
            0 when there is no place to show.
    """

    message: str
    path: tuple[str | int, ...] = ()
    tip: str = ""
    on_key: bool = False
    line: int = 0
    column: int = 0
    width: int = 1


class StudyFileError(TuneVaeError):
    """A study file that cannot be used. Holds every problem found and the file as given.

    Arguments:
        problems: At least one, in the order of the file.
        file: The file's path as the user wrote it.
        text: Its contents, for showing the lines at fault.
    """

    exit_code = 2

    def __init__(self, problems: list[Problem], *, file: str, text: str = "") -> None:
        self.problems = problems
        self.file = file
        self.text = text
        super().__init__("; ".join(problem.message for problem in problems))


class StudyError(TuneVaeError):
    """A study that is valid as a file and still cannot be run as asked."""

    exit_code = 2


class DataError(TuneVaeError):
    """A data set that is absent, broken or outside the domain of a likelihood."""

    exit_code = 2


class ExportError(TuneVaeError):
    """A trial that has no model to export, or a folder that cannot take one."""

    exit_code = 2


class TrialNotFoundError(TuneVaeError):
    """A trial number that the study does not have."""

    exit_code = 2


class CheckpointError(TuneVaeError):
    """A checkpoint that cannot be read."""

    exit_code = 2


class StorageError(TuneVaeError):
    """A ledger, tracking server or checkpoint store that does not answer."""

    exit_code = 4
