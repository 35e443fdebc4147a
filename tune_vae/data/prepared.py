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
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tune_vae.data import Splits, Targets
from tune_vae.data.preparing import Recipe, prepare
from tune_vae.data.progress import tell
from tune_vae.errors import DataError

__all__ = ["Prepared", "cache_folder", "prepared"]


def cache_folder() -> Path:
    """`TUNE_VAE_CACHE`, else `tune_vae` in `XDG_CACHE_HOME` or `~/.cache`. May be deleted."""
    named = os.environ.get("TUNE_VAE_CACHE")
    if named:
        return Path(named).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tune_vae"


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


def _prepare(folder: Path, recipe: Recipe, *, skip_broken: bool) -> dict[int, str]:
    ready, journal = folder / "ready.json", folder / "journal"
    ready.unlink(missing_ok=True)
    _refuse_full_disk(folder / "images", recipe)
    size = recipe.count * recipe.bytes_each / 1e6
    tell(f"{recipe.name}: preparing {recipe.count:,} examples once, in {folder} ({size:,.0f} MB)")
    broken = prepare(recipe, folder / "images", journal, skip_broken=skip_broken)
    _write_durably(ready, json.dumps({"broken": broken}, indent=1))
    journal.unlink()
    if broken:
        tell(
            f"{recipe.name}: {len(broken):,} of them left out as broken, listed in {ready}; the "
            f"first: {next(iter(broken.values()))}"
        )
    return broken


def _refuse_full_disk(images: Path, recipe: Recipe) -> None:
    there = images.stat().st_size if images.exists() else 0
    missing = recipe.count * recipe.bytes_each - there
    free = shutil.disk_usage(images.parent).free
    if missing > free:
        raise DataError(
            f"{recipe.name} needs {missing / 1e9:.1f} GB in {images.parent}, where "
            f"{free / 1e9:.1f} GB are free; make room, or set TUNE_VAE_CACHE to a folder elsewhere"
        )


def _write_durably(file: Path, text: str) -> None:
    beside = file.with_suffix(".new")
    with beside.open("w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    beside.replace(file)
