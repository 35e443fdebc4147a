"""What the stores of a study are, whether they work, and who else could reach them.

A search that died can go on elsewhere only where ledger, pages and checkpoints can be reached, so
each is tried out, and what another machine would not find is said in plain words.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tune_vae.errors import StorageError, masked
from tune_vae.service import databases, tracking
from tune_vae.spec.study import Storage, is_url
from tune_vae.training import checkpoint

__all__ = ["StoreReport", "file_system", "try_stores"]

NOTABLE_SECONDS = 2.0
"""Clocks that differ by less agree."""

_NETWORK = frozenset(
    "9p afs beegfs ceph cifs fuse.ceph fuse.glusterfs fuse.sshfs glusterfs gpfs lustre nfs nfs4 "
    "smb3 smbfs vboxsf virtiofs".split()
)
"""File systems behind which other machines are."""


@dataclass(frozen=True)
class StoreReport:
    """How one store was found.

    Arguments:
        name: `ledger`, `MLflow` or `checkpoints`.
        place: Where it is, without passwords.
        works: Whether it can be written and read from here.
        shared: Whether another machine could reach it.
        words: What was tried and what follows.
    """

    name: str
    place: str
    works: bool
    shared: bool
    words: str


def try_stores(storage: Storage) -> tuple[StoreReport, ...]:
    """Write to each store, read from it and clean up again; a folder that is missing stays so."""
    return (
        _reported("ledger", storage.ledger, lambda: _database(storage.ledger, "storage.ledger")),
        _reported("MLflow", storage.tracking, lambda: _mlflow(storage)),
        _reported("checkpoints", storage.checkpoints, lambda: _folder(storage.checkpoints)),
    )


_Found = tuple[bool, str]
"""Whether another machine could reach it, and the words."""


def _reported(name: str, place: str, try_out: Callable[[], _Found]) -> StoreReport:
    try:
        shared, words = try_out()
    except StorageError as error:
        return StoreReport(name, masked(place), False, False, str(error))
    return StoreReport(name, masked(place), True, shared, words)


def _database(url: str, setting: str) -> _Found:
    file = databases.sqlite_file(url) if url.startswith("sqlite") else None
    if file is not None:
        return _sqlite(file, url, setting)
    clock = _clock(lambda: databases.try_out(url, setting))
    shared, reach = _reach(urlsplit(url).hostname or "")
    return shared, f"written, read and cleaned up; {clock}; {reach}"


def _sqlite(file: Path, url: str, setting: str) -> _Found:
    if file.exists():
        databases.try_out(url, setting)
        tried = "written, read and cleaned up"
    else:
        checkpoint.try_out(_nearest_folder(file.parent))
        tried = "not there yet, can be made"
    kind = file_system(_nearest_folder(file.parent))
    if kind in _NETWORK:
        return False, (
            f"{tried}; dangerous: SQLite on a network drive ({kind}), where its locks do not hold "
            "and two machines can destroy it. Use a database server, or a local disk"
        )
    return False, f"{tried}; a file on a disk of this machine, which no other machine reaches"


def _mlflow(storage: Storage) -> _Found:
    if not tracking.is_server(storage):
        shared, words = _database(storage.tracking, "storage.tracking")
        pages, artifacts = _folder(storage.artifacts)
        return shared and pages, f"{words}. Artifacts in {masked(storage.artifacts)}: {artifacts}"
    root = ""

    def ask() -> float:
        nonlocal root
        clock, root = tracking.try_server(storage)
        return clock

    clock = _clock(ask)
    shared, reach = _reach(urlsplit(storage.tracking).hostname or "")
    if root.startswith("mlflow-artifacts:"):
        return shared, f"up; an artifact written, listed, read and removed; {clock}; {reach}"
    own = not is_url(root) or root.startswith("file:")
    tip = "start it with `--artifacts-destination` and without `--default-artifact-root`"
    return shared and not own, (
        f"up; {clock}; {reach}; it does not take artifacts itself, each machine writes to "
        f"{masked(root)}" + (f", which is another folder on each: {tip}" if own else "")
    )


def _folder(place: str) -> _Found:
    if is_url(place) and not place.startswith("file:"):
        clock = _clock(lambda: checkpoint.try_out(place))
        if place.startswith("memory:"):
            raise StorageError(f"{place} is the memory of one process; name a folder or a bucket")
        return True, f"written, listed, read and removed; {clock}; other machines can reach it"
    path = Path(urlsplit(place).path if is_url(place) else place).absolute()
    folder = _nearest_folder(path)
    clock = _clock(lambda: checkpoint.try_out(folder))
    tried = "written, listed, read and removed" if folder == path else "not there yet, can be made"
    kind = file_system(folder)
    if kind in _NETWORK:
        return (
            True,
            f"{tried}; {clock}; a network drive ({kind}): whoever mounts it reaches it",
        )
    return False, f"{tried}; a folder on a disk of this machine, which no other machine reaches"


def _nearest_folder(path: Path) -> Path:
    """The folder, or the nearest above it that is there."""
    path = path.absolute()
    nearest = next(one for one in (path, *path.parents) if one.exists())
    if not nearest.is_dir():
        raise StorageError(f"{nearest} is no folder")
    return nearest


def _clock(ask: Callable[[], float]) -> str:
    """How the clock of a store that answers with its time compares to this machine's."""
    before = time.time()
    there = ask()
    # It may tell whole seconds, and was asked at some moment in between.
    ahead = max(0.0, there - time.time()) + min(0.0, there + 1 - before)
    if abs(ahead) < NOTABLE_SECONDS:
        return "clocks agree"
    return f"its clock is {abs(ahead):.0f} s {'ahead' if ahead > 0 else 'behind'}"


def _reach(host: str) -> _Found:
    if not host or host == "localhost" or host == "::1" or host.startswith("127."):
        return False, "other machines do not reach it under this name, which is this machine"
    return True, "other machines can reach it"


def file_system(path: Path, mounts: Path = Path("/proc/self/mounts")) -> str:
    """The kind of file system that a folder lies on, such as `ext4`; empty when unknown.

    Arguments:
        path: An absolute path.
        mounts: Linux's table of what is mounted where; a later line covers an earlier one.
    """
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return ""
    kind, longest = "", -1
    for line in lines:
        place, this = line.split()[1:3]
        # A space is written as an octal number.
        root = Path(place.encode().decode("unicode_escape"))
        if path.resolve().is_relative_to(root) and len(root.parts) >= longest:
            kind, longest = this, len(root.parts)
    return kind
