"""Checkpoints on disk: written whole or not at all, and never executed when read."""

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from tune_vae.errors import CheckpointError, StorageError

__all__ = ["Checkpoint", "CheckpointStore", "is_sound", "load", "save"]

Checkpoint = dict[str, Any]
"""Tensors and plain values only: what `Trainer.state` gives, and the reports so far."""

_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def save(checkpoint: Checkpoint, path: Path) -> None:
    """Write to a temporary neighbour, flush it to the disk, and put it in place in one move.

    Raises:
        StorageError: The disk is full, or the folder cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except (OSError, RuntimeError) as error:
        # torch reports a full disk as a RuntimeError of its zip writer.
        raise StorageError(f"cannot write the checkpoint {path}: {error}") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def load(path: Path) -> Checkpoint:
    """Read a checkpoint. Only tensors and plain values are accepted.

    Raises:
        CheckpointError: The file is absent, torn, or holds anything executable.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"no checkpoint at {path}") from None
    except Exception as error:  # noqa: BLE001
        # A torn pickle fails as almost anything: KeyError, IndexError, UnicodeDecodeError, ...
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"{path} is not a readable checkpoint: {reason}") from None
    if not (isinstance(checkpoint, dict) and "theta" in checkpoint):
        raise CheckpointError(f"{path} is not a checkpoint of tune_vae")
    return checkpoint


def is_sound(checkpoint: Checkpoint) -> bool:
    """Whether training can go on: the member is alive and its every number finite."""
    values = (*checkpoint.values(), *checkpoint["buffers"].values())
    tensors = [value for value in values if isinstance(value, torch.Tensor)]
    return bool(checkpoint["alive"]) and all(bool(one.isfinite().all()) for one in tensors)


class CheckpointStore:
    """The folder of one study: `<trial>/best.pt`, `<trial>/last.pt`, `<trial>/previous.pt`.

    Arguments:
        root: Folder of all studies.
        study: Name of the study.
    """

    def __init__(self, root: Path, study: str) -> None:
        if not _SAFE_NAME.fullmatch(study):
            raise StorageError(f"{study!r} cannot be the name of a folder")
        self.folder = root / study

    def path(self, trial: int, name: str) -> Path:
        """Where the `best` or `last` checkpoint of a trial lies."""
        return self.folder / f"{int(trial):05d}" / f"{name}.pt"

    def save_best(self, trial: int, checkpoint: Checkpoint) -> None:
        save(checkpoint, self.path(trial, "best"))

    def save_last(self, trial: int, checkpoint: Checkpoint) -> None:
        """Write the newest state and keep the one before it as `previous`."""
        last = self.path(trial, "last")
        if last.exists():
            last.replace(self.path(trial, "previous"))
        save(checkpoint, last)

    def last(self, trial: int) -> Checkpoint | None:
        """The newest checkpoint that can be read, or None when there is none."""
        return next(self._newest(trial), None)

    def last_sound(self, trial: int) -> Checkpoint | None:
        """The newest from which training can go on, or None when there is none."""
        return next(filter(is_sound, self._newest(trial)), None)

    def _newest(self, trial: int) -> Iterator[Checkpoint]:
        for name in ("last", "previous"):
            with contextlib.suppress(CheckpointError):
                yield load(self.path(trial, name))

    def best(self, trial: int) -> Checkpoint | None:
        """The checkpoint of the best epoch, or None when there is none that can be read."""
        with contextlib.suppress(CheckpointError):
            return load(self.path(trial, "best"))
        return None

    def discard(self, trial: int) -> None:
        """Remove the checkpoints of a trial."""
        shutil.rmtree(self.path(trial, "last").parent, ignore_errors=True)
