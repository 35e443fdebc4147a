"""Files that are there whole or not at all, whoever reads them and whenever their writer dies."""

import contextlib
import os
import uuid
from pathlib import Path

__all__ = ["write_whole"]


def write_whole(
    place: Path, contents: bytes, *, private: bool = False, keep: bool = False
) -> Path:
    """Write a file beside its place, and move it there when the disk has all of it.

    Arguments:
        place: Where it shall be; what is there is replaced, and folders are made.
        contents: All of it.
        private: Nobody else may read it, at no moment.
        keep: What is there stays, also if another put it there at the same moment.

    Raises:
        OSError: It cannot be written; what was there before is still there.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    # Two may write at once, of one process or of two machines that share the folder.
    partial = place.with_name(f".{place.name}.{uuid.uuid4().hex}.partial")
    try:
        flags = os.O_CREAT | os.O_WRONLY | os.O_EXCL
        with os.fdopen(os.open(partial, flags, 0o600 if private else 0o666), "wb") as stream:
            stream.write(contents)
            stream.flush()
            os.fsync(stream.fileno())
        if not keep:
            return partial.replace(place)
        with contextlib.suppress(FileExistsError):
            os.link(partial, place)
        return place
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
