"""Files of a data set on this machine: where they are, how to get them, what a broken one says."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory

from tune_vae.errors import DataError

__all__ = ["Source", "absolute", "find", "reading", "stamp"]


@dataclass(frozen=True)
class Source:
    """Where the files of a data set come from.

    Arguments:
        name: Of the data set, as its authors write it.
        size: Of all its files together, with a unit.
        project: Who gives them away, for people who look for them by hand.
        fetch: Downloads them into the folder given; None where only a person can.
    """

    name: str
    size: str
    project: str
    fetch: Callable[[str], object] | None = None


def absolute(path: str) -> Path:
    """A path of a study: `~` is the home folder, a relative one starts at the current folder."""
    return Path(os.path.expanduser(path)).absolute()


def find(
    root: str, wanted: Sequence[Sequence[str]], source: Source, *, download: bool = False
) -> list[Path]:
    """The files of a data set, in the order asked for.

    Arguments:
        root: Folder of the data set.
        wanted: For each file the places within the folder where it may be, the usual one first.
        source: What to do when one is in none of its places.
        download: Whether to get absent files first, if the source can.

    Raises:
        DataError: A file is absent, or the download failed.
    """
    folder = absolute(root)

    def present() -> list[Path | None]:
        return [
            next((folder / place for place in places if (folder / place).is_file()), None)
            for places in wanted
        ]

    found = present()
    if None in found and download and source.fetch:
        _download(source.fetch, folder, source)
        found = present()
    if None in found:
        absent = [
            folder / places[0] for places, file in zip(wanted, found, strict=True) if not file
        ]
        offer = "write `download: true` under its name in the study, or " if source.fetch else ""
        raise DataError(
            f"{source.name} is not here: expected {_listed(absent)} ({source.size} in all); "
            f"{offer}get it from {source.project} and name its folder as `root`"
        )
    return [file for file in found if file]


def stamp(file: str | Path) -> str:
    """Size and time of change, which stand for the contents of a file too large to be read."""
    try:
        found = os.stat(file)
    except OSError:
        # It will be missed by the one who reads it.
        return "absent"
    return f"{found.st_size} {found.st_mtime_ns}"


@contextmanager
def reading(file: Path) -> Iterator[None]:
    """Turns what a reader makes of a damaged file into one sentence with the file's name.

    Raises:
        DataError: Instead of anything else that is raised inside.
    """
    try:
        yield
    except DataError:
        raise
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise DataError(f"{file} cannot be opened: {error.strerror}") from error
    except Exception as error:
        # Readers of foreign formats raise nearly everything, down to KeyError and AssertionError.
        kind = "" if type(error) is ValueError else f"{type(error).__name__}: "
        raise DataError(
            f"{file} is cut off, damaged or not what its name says: {kind}{_one_line(error)}; "
            "get it anew"
        ) from error


def _download(fetch: Callable[[str], object], folder: Path, source: Source) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Beside its place, and moved when whole: an interrupted download leaves no torn file, and
        # two processes that download at once do not write into one.
        with TemporaryDirectory(prefix=".download-", dir=folder) as scratch:
            fetch(scratch)
            for file in [place for place in Path(scratch).rglob("*") if place.is_file()]:
                place = folder / file.relative_to(scratch)
                place.parent.mkdir(parents=True, exist_ok=True)
                file.replace(place)
    except (OSError, RuntimeError, HTTPException) as error:
        raise DataError(
            f"{source.name} could not be downloaded into {folder} ({source.size}): "
            f"{_one_line(error)}; get it from {source.project} and name its folder as `root`"
        ) from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _listed(files: Sequence[Path]) -> str:
    """Absolute paths; those beside the first one by their names alone."""
    first, *others = files
    return ", ".join([str(first), *(file.name for file in others)])
