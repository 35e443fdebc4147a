"""Making a file of examples by all cores, so that a kill costs little.

The examples are made in chunks, in whatever order. Each that is written is noted in a journal
beside the file, with its checksum; whoever finds both goes on with what is missing.

Shapes: n examples, C H W image.
"""

import hashlib
import json
import math
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from tune_vae.data.progress import Progress
from tune_vae.errors import DataError
from tune_vae.machine import cores

__all__ = ["Recipe", "key_of", "prepare"]

CHUNK = 32
"""Examples that are written and noted together; so many, times the cores, are lost by a kill."""


def key_of(*parts: str | Tensor) -> str:
    """A key for a `Recipe` from all that decides on the values."""
    state = hashlib.sha256()
    for part in parts:
        state.update(os.fsencode(part) if isinstance(part, str) else part.numpy().tobytes())
    return state.hexdigest()[:16]


@dataclass(frozen=True)
class Recipe:
    """How to make a file of examples.

    Arguments:
        name: Of the data set, for people.
        key: From `key_of` everything that decides on the values, the order included.
        shape: C, H, W of one example.
        count: How many there are.
        read: The values of one example by its position, uint8 `[C, H, W]`. It is called from
            several threads, and raises `DataError` when the example is broken.
    """

    name: str
    key: str
    shape: tuple[int, int, int]
    count: int
    read: Callable[[int], Any]

    @property
    def bytes_each(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class _Chunk:
    """Finished examples from `start` on: the checksum of their values, and the broken ones."""

    start: int
    checksum: int
    broken: dict[int, str]


def prepare(recipe: Recipe, images: Path, journal: Path, *, skip_broken: bool) -> dict[int, str]:
    """Make the file, or what is missing of it. Nobody else may do so at the same time.

    Arguments:
        recipe: What to make.
        images: Where to.
        journal: Beside it; it is needed until the caller has noted that all is done.
        skip_broken: Leave out examples that are broken, instead of raising.

    Returns:
        What was left out, with the reasons, by position.

    Raises:
        DataError: An example is broken.
        OSError: The file cannot be written.
    """
    images.touch()
    done = _resumed(journal, images, recipe)
    starts = [start for start in range(0, recipe.count, CHUNK) if start not in done]
    before = recipe.count - sum(len(_chunk(recipe, start)) for start in starts)
    with (
        journal.open("a") as noted,
        Progress(f"preparing {recipe.name}", recipe.count, done=before) as progress,
    ):
        for chunk in _made(images, recipe, starts, skip_broken=skip_broken):
            done[chunk.start] = chunk
            noted.write(json.dumps(vars(chunk)) + "\n")
            noted.flush()
            progress.advance(len(_chunk(recipe, chunk.start)))
    broken = {at: reason for start in sorted(done) for at, reason in done[start].broken.items()}
    _close_up(images, recipe, broken)
    return broken


def _made(
    images: Path, recipe: Recipe, starts: Sequence[int], *, skip_broken: bool
) -> Iterator[_Chunk]:
    """Make chunks by all cores, in whatever order they are done.

    After an error no new one is begun, and those in work are still handed on.
    """
    ahead = iter(starts)
    failed: BaseException | None = None
    # Threads, because Pillow lets go of the interpreter while it decodes and resizes. With small
    # pictures they are worth five cores at most. Processes would be worth more, but take a second
    # to start, import the user's main module, and outlive a killed parent, holding its lock.
    with ThreadPoolExecutor(cores()) as pool:

        def begun(count: int) -> set[Future[_Chunk]]:
            few = islice(ahead, count)
            return {pool.submit(_make, images, recipe, start, skip_broken) for start in few}

        running = begun(2 * cores())
        while running:
            ended, running = wait(running, return_when=FIRST_COMPLETED)
            for job in ended:
                failed = failed or job.exception()
                if not job.exception():
                    yield job.result()
            running |= begun(0 if failed else len(ended))
    if failed:
        raise failed


def _make(images: Path, recipe: Recipe, start: int, skip_broken: bool) -> _Chunk:
    positions = _chunk(recipe, start)
    values = np.zeros((len(positions), *recipe.shape), dtype=np.uint8)
    broken = {}
    for i, position in enumerate(positions):
        try:
            one = recipe.read(position)
        except DataError as error:
            if not skip_broken:
                raise
            broken[position] = str(error)
            continue
        assert one.shape == recipe.shape, (one.shape, recipe.shape)
        values[i] = one
    with images.open("r+b") as stream:
        stream.seek(start * recipe.bytes_each)
        stream.write(values.data)
    return _Chunk(start, zlib.crc32(values.data), broken)


def _resumed(journal: Path, images: Path, recipe: Recipe) -> dict[int, _Chunk]:
    """By their start, chunks that an interrupted preparation noted and that are still right.

    After a power failure the journal may know of values that never reached the disk.
    """
    found = {}
    lines = journal.read_text().splitlines() if journal.exists() else []
    with images.open("rb") as stream:
        for line in lines:
            try:
                noted = json.loads(line)
                broken = {int(position): reason for position, reason in noted["broken"].items()}
                chunk = _Chunk(noted["start"], noted["checksum"], broken)
            except (ValueError, KeyError, TypeError):
                # The last line may be torn.
                continue
            stream.seek(chunk.start * recipe.bytes_each)
            held = stream.read(len(_chunk(recipe, chunk.start)) * recipe.bytes_each)
            if zlib.crc32(held) == chunk.checksum:
                found[chunk.start] = chunk
    # A torn line would swallow the next one that is appended.
    journal.write_text("".join(f"{json.dumps(vars(chunk))}\n" for chunk in found.values()))
    return found


def _chunk(recipe: Recipe, start: int) -> range:
    return range(start, min(start + CHUNK, recipe.count))


def _close_up(images: Path, recipe: Recipe, broken: dict[int, str]) -> None:
    """Move the examples together over the broken ones, and see that all is on the disk.

    If this is interrupted, the checksums of what was moved are wrong, and it is made again.
    """
    kept = np.delete(np.arange(recipe.count), list(broken))
    with images.open("r+b") as stream:
        if broken and len(kept):
            values = np.memmap(stream, np.uint8, "r+", shape=(recipe.count, recipe.bytes_each))
            for start in range(0, len(kept), CHUNK):
                from_here = kept[start : start + CHUNK]
                values[start : start + len(from_here)] = values[from_here]
            values.flush()
        stream.truncate(len(kept) * recipe.bytes_each)
        os.fsync(stream.fileno())
