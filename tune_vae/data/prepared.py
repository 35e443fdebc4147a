"""Examples brought into their final form once, in a file that all processes of a machine share.

Pictures are decoded, cut and resized the first time they are asked for, by all cores, and kept as
bytes in a folder of the cache. From then on they are mapped into memory: opening takes no time,
any number of trials share one copy, and data may be larger than memory.

| in `<cache>/<name>-<key>/` |                                                                    |
|----------------------------|--------------------------------------------------------------------|
| `images`                   | the values, one example after another, in the order of the splits  |
| `ready.json`               | written last: which examples were left out, and why                |
| `journal`                  | meanwhile: the chunks that are done, each with its checksum        |
| `lock`                     | held by the one that prepares; the system frees it if it is killed |

Nobody reads `images` without `ready.json`. After a kill or a power failure the next one keeps
those chunks whose checksum is right, and makes the others.

Shapes: n examples, C H W image.
"""

import fcntl
import hashlib
import json
import math
import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tune_vae.data import Splits, Targets
from tune_vae.data.progress import Progress, tell
from tune_vae.errors import DataError

__all__ = ["Prepared", "Recipe", "cache_folder", "key_of", "prepared"]

CHUNK = 32
"""Examples that are written and noted together; so many, times the cores, are lost by a kill."""


def cache_folder() -> Path:
    """`TUNE_VAE_CACHE`, else `tune_vae` in `XDG_CACHE_HOME` or `~/.cache`. May be deleted."""
    named = os.environ.get("TUNE_VAE_CACHE")
    if named:
        return Path(named).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tune_vae"


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
class Prepared:
    """Examples in memory that is shared with other processes and must not be written to.

    Arguments:
        images: `[n, C, H, W]`, uint8.
        kept: Whether each example of the recipe is among them, `[count]`.
    """

    images: Tensor
    kept: Tensor

    def splits(
        self,
        lengths: Sequence[int],
        *,
        levels: int,
        labels: Tensor | None = None,
        factors: Tensor | None = None,
    ) -> Splits:
        """The three parts, which follow one another; nothing is copied.

        Arguments:
            lengths: Examples of training, validation and test in the recipe.
            levels: See `Splits`.
            labels, factors: Of all examples of the recipe, in its order.
        """
        part = torch.repeat_interleave(torch.arange(3), torch.tensor(lengths))
        sizes = torch.bincount(part[self.kept], minlength=3).tolist()

        def targets(known: Tensor | None) -> Targets | None:
            return None if known is None else Targets(*torch.split(known[self.kept], sizes))

        train, validation, test = torch.split(self.images, sizes)
        return Splits(
            train=train,
            validation=validation,
            test=test,
            levels=levels,
            labels=targets(labels),
            factors=targets(factors),
            skipped=len(self.kept) - len(self.images),
        )


def prepared(recipe: Recipe, *, skip_broken: bool = False) -> Prepared:
    """The examples of a recipe, made now if they are not there.

    While another process makes them, this one waits.

    Arguments:
        recipe: What to make.
        skip_broken: Leave out examples that are broken, instead of raising.

    Raises:
        DataError: An example is broken, or the cache cannot be written.
    """
    folder = cache_folder() / f"{recipe.name}-{recipe.key}"
    try:
        broken = _ready(folder, recipe)
        if broken is None:
            folder.mkdir(parents=True, exist_ok=True)
            with _alone(folder, recipe.name):
                broken = _ready(folder, recipe)
                if broken is None:
                    broken = _prepare(folder, recipe, skip_broken=skip_broken)
    except OSError as error:
        raise DataError(
            f"{recipe.name} cannot be prepared in {folder}: {error.strerror}; set TUNE_VAE_CACHE "
            "to a folder that can be written"
        ) from error
    if broken and not skip_broken:
        raise DataError(next(iter(broken.values())))
    kept = torch.ones(recipe.count, dtype=torch.bool)
    kept[list(broken)] = False
    return Prepared(_mapped(folder / "images", int(kept.sum()), recipe), kept)


def _mapped(file: Path, count: int, recipe: Recipe) -> Tensor:
    if not count:
        return torch.empty((0, *recipe.shape), dtype=torch.uint8)
    # Private to the process as soon as somebody writes, so that no mistake spoils the file.
    values = torch.from_file(
        str(file), shared=False, size=count * recipe.bytes_each, dtype=torch.uint8
    )
    return values.view(count, *recipe.shape)


def _ready(folder: Path, recipe: Recipe) -> dict[int, str] | None:
    """What was left out, with the reasons, by position; None if nothing is ready to be read."""
    try:
        noted = json.loads((folder / "ready.json").read_text())
        broken = {int(position): str(reason) for position, reason in noted["broken"].items()}
        size = (folder / "images").stat().st_size
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return None
    whole = size == (recipe.count - len(broken)) * recipe.bytes_each
    return broken if whole else None


@contextmanager
def _alone(folder: Path, name: str) -> Iterator[None]:
    """Of all processes only this one, until the block ends or the process does."""
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tell(f"{name}: another process prepares these data; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@dataclass(frozen=True)
class _Chunk:
    """Finished examples from `start` on: the checksum of their values, and the broken ones."""

    start: int
    checksum: int
    broken: dict[int, str]


def _prepare(folder: Path, recipe: Recipe, *, skip_broken: bool) -> dict[int, str]:
    (folder / "ready.json").unlink(missing_ok=True)
    images, journal = folder / "images", folder / "journal"
    images.touch()
    _refuse_full_disk(images, recipe)
    done = _resumed(journal, images, recipe)
    size = recipe.count * recipe.bytes_each / 1e6
    tell(f"{recipe.name}: preparing {recipe.count:,} examples once, in {folder} ({size:,.0f} MB)")
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
    _write_durably(folder / "ready.json", json.dumps({"broken": broken}, indent=1))
    journal.unlink()
    if broken:
        tell(
            f"{recipe.name}: {len(broken):,} of them left out as broken, listed in "
            f"{folder / 'ready.json'}; the first: {next(iter(broken.values()))}"
        )
    return broken


def _made(
    images: Path, recipe: Recipe, starts: Sequence[int], *, skip_broken: bool
) -> Iterator[_Chunk]:
    """Make chunks by all cores, in whatever order they are done.

    After an error no new one is begun, and those in work are still handed on.
    """
    ahead = iter(starts)
    failed: BaseException | None = None
    # Threads, because Pillow lets go of the interpreter while it decodes and resizes: they need no
    # start-up of a second each, and none outlives a killed parent, holding its lock.
    with ThreadPoolExecutor(_cores()) as pool:

        def begun(count: int) -> set[Future[_Chunk]]:
            few = islice(ahead, count)
            return {pool.submit(_make, images, recipe, start, skip_broken) for start in few}

        running = begun(2 * _cores())
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


def _write_durably(file: Path, text: str) -> None:
    beside = file.with_suffix(".new")
    with beside.open("w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    beside.replace(file)


def _refuse_full_disk(images: Path, recipe: Recipe) -> None:
    missing = recipe.count * recipe.bytes_each - images.stat().st_size
    free = shutil.disk_usage(images.parent).free
    if missing > free:
        raise DataError(
            f"{recipe.name} needs {missing / 1e9:.1f} GB in {images.parent}, where "
            f"{free / 1e9:.1f} GB are free; make room, or set TUNE_VAE_CACHE to a folder elsewhere"
        )


def _cores() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
