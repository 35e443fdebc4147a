"""Checkpoints in a folder or an object store: written whole or not at all, never executed.

A place is a path or an URL of fsspec, such as `s3://bucket/folder`. Several machines may write to
it, and one that was taken for dead may wake up and go on. So nobody overwrites a file of another:
its name holds the attempt that wrote it and the epoch it is of, and readers take the newest.
"""

import contextlib
import io
import re
import time
import uuid
import zipfile
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import fsspec
import fsspec.core
import torch
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from tune_vae.errors import CheckpointError, StorageError
from tune_vae.whole_files import write_whole

__all__ = ["Checkpoint", "CheckpointStore", "is_sound", "load", "save", "try_out"]

# By name only; it is imported when such a place is used.
fsspec.register_implementation("tunevae", "tune_vae.training.served.ServedFiles")

PATIENCE_SECONDS = 300
"""How long a training waits for an object store that does not answer."""

Checkpoint = dict[str, Any]
"""Tensors and plain values only: what `Trainer.state` gives, and the reports so far."""

_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_OTHER_THAN_A_FILE = (FileNotFoundError, IsADirectoryError)
_Version = tuple[int, int]
"""Attempt and epoch; of two, the larger is the newer."""

_T = TypeVar("_T")


def save(checkpoint: Checkpoint, place: str | Path) -> None:
    """Write a checkpoint in one move: whoever looks finds the old file or the new one.

    Raises:
        StorageError: The disk is full, or the place cannot be written.
    """
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    try:
        _request("write", place, lambda files, path: _put(files, path, buffer.getvalue()))
    except _OTHER_THAN_A_FILE as error:
        # A bucket, for instance, which nobody but its owner can make.
        raise StorageError(f"cannot write {place}: {error}") from None


def load(place: str | Path) -> Checkpoint:
    """Read a checkpoint. Only tensors and plain values are accepted.

    Raises:
        CheckpointError: The file is absent, torn, or holds anything executable.
        StorageError: The place does not answer.
    """
    checkpoint = _load(place)
    if "theta" not in checkpoint:
        raise CheckpointError(f"{place} is not a checkpoint of tune_vae")
    return checkpoint


def _load(place: str | Path) -> dict[str, Any]:
    try:
        data = _request("read", place, lambda files, path: files.cat_file(path))
    except FileNotFoundError:
        raise CheckpointError(f"no checkpoint at {place}") from None
    except IsADirectoryError:
        raise CheckpointError(f"{place} is not a readable checkpoint: it is a folder") from None
    try:
        # torch does not compare the checksums that it writes.
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            damaged = archive.testzip()
        if damaged:
            raise zipfile.BadZipFile(f"{damaged} is damaged")
        checkpoint = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001
        # A torn pickle fails as almost anything: KeyError, IndexError, UnicodeDecodeError, ...
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"{place} is not a readable checkpoint: {reason}") from None
    if not isinstance(checkpoint, dict):
        raise CheckpointError(f"{place} is not a checkpoint of tune_vae")
    return checkpoint


def is_sound(checkpoint: Checkpoint) -> bool:
    """Whether training can go on: the member is alive and its every number finite."""
    values = (*checkpoint.values(), *checkpoint["buffers"].values())
    tensors = [value for value in values if isinstance(value, torch.Tensor)]
    return bool(checkpoint["alive"]) and all(bool(one.isfinite().all()) for one in tensors)


class CheckpointStore:
    """The checkpoints of one study.

    Of a trial that runs, `<trial>/last-<attempt>-<epoch>.pt` and `<trial>/best-…`, the newest two
    of each; of one that ended, the newest `last-…` and `<trial>/best.pt`. Of both, what the model
    drew in some epochs, `<trial>/drawn-<epoch>.pt`.

    Arguments:
        root: Folder or URL of all studies.
        study: Name of the study.
        attempts: For whoever writes, the number of each trial's attempt. A process that takes
            a trial over has a higher number than all before it.
    """

    def __init__(
        self, root: str | Path, study: str, attempts: Mapping[int, int] | None = None
    ) -> None:
        if not _SAFE_NAME.fullmatch(study):
            raise StorageError(f"{study!r} cannot be the name of a folder")
        self.folder = f"{str(root).rstrip('/')}/{study}"
        self._attempts = attempts or {}
        self._kept: dict[tuple[int, str], list[_Version]] = {}

    def path(self, trial: int, name: str) -> str:
        """Where a file of a trial lies, such as `best.pt` of one that ended."""
        return f"{self.folder}/{int(trial):05d}/{name}"

    def save_best(self, trial: int, checkpoint: Checkpoint) -> None:
        """Write the state of the best epoch so far."""
        self._save(trial, "best", checkpoint)

    def save_last(self, trial: int, checkpoint: Checkpoint) -> None:
        """Write the newest state."""
        self._save(trial, "last", checkpoint)

    def last(self, trial: int) -> Checkpoint | None:
        """The newest checkpoint that can be read, or None when there is none."""
        return next(self._newest(trial), None)

    def last_sound(self, trial: int) -> Checkpoint | None:
        """The newest from which training can go on, or None when there is none."""
        return next(filter(is_sound, self._newest(trial)), None)

    def _newest(self, trial: int) -> Iterator[Checkpoint]:
        earlier = [self.path(trial, name) for name in ("last.pt", "previous.pt")]
        return _readable([*self.files(trial, "last"), *earlier])

    def best(self, trial: int, epoch: int) -> Checkpoint | None:
        """The checkpoint of the best epoch, or None when there is none that can be read.

        Which epoch is the best the reports in the last checkpoint tell. A newer file may be there,
        of a process that does not know yet that it lost the trial.
        """
        versions = [version for version in self._versions(trial, "best") if version[1] == epoch]
        files = [self._file(trial, "best", version) for version in versions]
        return next(_readable([*files, self.path(trial, "best.pt")]), None)

    def files(self, trial: int, kind: str) -> list[str]:
        """Where the `best` or `last` checkpoints of a trial that runs lie, the newest first."""
        return [self._file(trial, kind, version) for version in self._versions(trial, kind)]

    def save_drawings(self, trial: int, epoch: int, drawings: Mapping[str, torch.Tensor]) -> None:
        """Write what a model drew after an epoch, before its checkpoint, which comes to imply it.

        Whoever runs the epoch again draws the same.
        """
        moment = {"drawn_at": time.time()}
        save(moment | {"drawings": dict(drawings)}, self.path(trial, f"drawn-{epoch:04d}.pt"))

    def drawn(self, trial: int) -> list[int]:
        """Epochs of which there are drawings, the first first."""
        return sorted(int(match[1]) for match in self._matching(trial, r"drawn-(\d+)\.pt"))

    def drawings(self, trial: int, epoch: int) -> tuple[float, dict[str, torch.Tensor]]:
        """When a model drew, in seconds since 1970, and what; nothing if it cannot be read."""
        with contextlib.suppress(CheckpointError):
            found = _load(self.path(trial, f"drawn-{epoch:04d}.pt"))
            return found["drawn_at"], found["drawings"]
        return 0.0, {}

    def publish(self, trial: int, epoch: int | None) -> None:
        """Give the best checkpoint of a trial that ended its plain name, and remove the others.

        May be repeated. Only for whoever told the ledger of the end: nobody trains it after that.
        """
        best = self.best(trial, epoch) if epoch is not None else None
        if best is not None:
            save(best, self.path(trial, "best.pt"))
        for file in [*self.files(trial, "best"), *self.files(trial, "last")[1:]]:
            _remove(file)

    def unpublished(self) -> set[int]:
        """Trials whose best checkpoint has no plain name yet."""
        pattern = f"{self.folder}/*/best-*.pt"
        found = _request("list", pattern, lambda files, path: files.glob(path))
        return {int(file.split("/")[-2]) for file in found}

    def discard(self, trial: int) -> None:
        """Remove the checkpoints of a trial."""
        for key in [key for key in self._kept if key[0] == trial]:
            del self._kept[key]
        with contextlib.suppress(FileNotFoundError):
            folder = self.path(trial, "")
            _request("remove", folder, lambda files, path: files.rm(path, recursive=True))

    def _file(self, trial: int, kind: str, version: _Version) -> str:
        attempt, epoch = version
        return self.path(trial, f"{kind}-{attempt}-{epoch:04d}.pt")

    def _save(self, trial: int, kind: str, checkpoint: Checkpoint) -> None:
        mine = self._attempts.get(trial, 0), int(checkpoint["epoch"])
        known = self._kept.get((trial, kind))
        known = self._versions(trial, kind) if known is None else known
        save(checkpoint, self._file(trial, kind, mine))
        # Never one that is newer: it belongs to whoever took the trial over.
        older = [version for version in known if version < mine]
        for version in older[1:]:
            _remove(self._file(trial, kind, version))
        self._kept[trial, kind] = [mine, *older[:1]]

    def _versions(self, trial: int, kind: str) -> list[_Version]:
        """Of the files of a kind, the newest first."""
        found = self._matching(trial, rf"{kind}-(\d+)-(\d+)\.pt")
        return sorted(((int(match[1]), int(match[2])) for match in found), reverse=True)

    def _matching(self, trial: int, form: str) -> list[re.Match[str]]:
        """Names of a trial's files that have a form."""
        try:
            folder = self.path(trial, "")
            names = _request("list", folder, lambda files, path: files.ls(path, detail=False))
        except FileNotFoundError:
            return []
        found = (re.fullmatch(form, name.rpartition("/")[2]) for name in names)
        return list(filter(None, found))


def try_out(root: str | Path) -> float:
    """Write, list, read and remove a small file in a place for checkpoints.

    Returns:
        The time of the place, in seconds since 1970; object stores tell whole seconds.

    Raises:
        StorageError: It cannot be done, or the place returns something else than was written.
    """
    # Random: several machines may try at the same moment.
    content = uuid.uuid4().hex.encode()
    file = f"{str(root).rstrip('/')}/.tune-vae-{content.decode()}"

    def try_it(files: AbstractFileSystem, path: str) -> float:
        _put(files, path, content)
        try:
            folder, _, name = path.rpartition("/")
            listed = {name.rpartition("/")[2] for name in files.ls(folder, detail=False)}
            if name not in listed or files.cat_file(path) != content:
                raise OSError("it does not return what was written to it")
            modified: datetime = files.modified(path)
        finally:
            files.rm_file(path)
        return modified.timestamp()

    try:
        return _request("use", file, try_it, patience=0)
    except FileNotFoundError as error:
        raise StorageError(f"cannot use {root}: {error}") from None


def _readable(places: list[str]) -> Iterator[Checkpoint]:
    """Those of these files that are checkpoints."""
    for place in places:
        with contextlib.suppress(CheckpointError):
            yield load(place)


def _remove(place: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        _request("remove", place, lambda files, path: files.rm_file(path))


def _put(files: AbstractFileSystem, path: str, data: bytes) -> None:
    """An object store shows what was put there once it is complete; a disk needs a detour."""
    if isinstance(files, LocalFileSystem):
        write_whole(Path(path), data)
    else:
        files.pipe_file(path, data)


def _request(
    what: str,
    place: str | Path,
    call: Callable[[AbstractFileSystem, str], _T],
    *,
    patience: float | None = None,
) -> _T:
    """Ask the file system behind a place, again and again while it does not answer.

    Raises:
        FileNotFoundError: There is no such file, folder or bucket.
        IsADirectoryError: It is a folder.
        StorageError: Anything else that went wrong.
    """
    wait = 0.5
    deadline = time.monotonic() + (PATIENCE_SECONDS if patience is None else patience)
    while True:
        try:
            # Without a memory of listings: other machines write as well.
            files, path = fsspec.core.url_to_fs(str(place), use_listings_cache=False)
            return call(files, path)
        except _OTHER_THAN_A_FILE:
            raise
        except Exception as error:  # noqa: BLE001
            # Each kind of store has a library with exceptions of its own.
            failure = StorageError(f"cannot {what} {place}: {_reason(error)}")
            may_pass = "://" in str(place) and _is_outage(error)
            if not may_pass or time.monotonic() + wait > deadline:
                raise failure from None
        time.sleep(wait)
        wait = min(2 * wait, 10.0)


def _is_outage(error: Exception) -> bool:
    """Whether a request may succeed when it is repeated later."""
    if isinstance(error, OSError):
        return not isinstance(error, PermissionError)
    name = type(error).__name__
    return "Connect" in name or "Timeout" in name


def _reason(error: Exception) -> str:
    reason = (str(error) or type(error).__name__).splitlines()[0]
    if isinstance(error, ImportError):
        reason += " (for s3: `pip install 'tune-vae[s3]'`)"
    return reason
