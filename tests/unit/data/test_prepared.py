"""Prepared files: what is in them, who makes them, and what interruptions leave of them."""

import json
import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from tune_vae.data import prepared as module
from tune_vae.data import preparing
from tune_vae.data.prepared import Prepared, cache_folder, prepared
from tune_vae.data.preparing import CHUNK, Recipe, key_of
from tune_vae.errors import DataError

COUNT = 5 * CHUNK + 3
VALUES = np.random.default_rng(0).integers(256, size=(COUNT, 3, 4, 5), dtype=np.uint8)


class Kitchen:
    """Makes `VALUES`, counts who is read, and breaks some.

    Arguments:
        folder: Of the cache.
        broken: Positions that raise `DataError`.
        dead: Positions that raise as if the process had ended.
    """

    def __init__(self, folder: Path, *, broken: Iterable[int] = (), dead: int = -1) -> None:
        self.folder, self.broken, self.dead = folder / "test-key", set(broken), dead
        self.reads: Counter[int] = Counter()

    def read(self, position: int) -> Any:
        self.reads[position] += 1
        if position == self.dead:
            raise KeyboardInterrupt
        if position in self.broken:
            raise DataError(f"number {position} is broken")
        return VALUES[position]

    def make(self, *, skip_broken: bool = False) -> Prepared:
        self.reads.clear()
        recipe = Recipe("test", "key", VALUES.shape[1:], COUNT, self.read)
        return prepared(recipe, skip_broken=skip_broken)

    def missing(self) -> set[int]:
        """Positions in chunks that the journal does not know."""
        noted: set[int] = set()
        for line in (self.folder / "journal").read_text().splitlines():
            if line.endswith("}}"):
                start = json.loads(line)["start"]
                noted |= set(range(start, start + CHUNK))
        return set(range(COUNT)) - noted

    def reads_nothing(self) -> bool:
        found = self.make()
        return not self.reads and torch.equal(found.images, torch.from_numpy(VALUES))

    def reads_only(self, positions: set[int]) -> bool:
        found = self.make()
        return set(self.reads) == positions and torch.equal(found.images, torch.from_numpy(VALUES))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TUNE_VAE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_all_values_are_there_in_their_order_and_made_once(cache: Path) -> None:
    kitchen = Kitchen(cache)
    found = kitchen.make()
    assert torch.equal(found.images, torch.from_numpy(VALUES))
    assert found.kept.tolist() == [True] * COUNT
    assert kitchen.reads == Counter(range(COUNT))
    assert kitchen.reads_nothing()
    assert sorted(file.name for file in kitchen.folder.iterdir()) == [
        "images",
        "lock",
        "ready.json",
    ]


def test_values_are_mapped_and_cannot_be_spoilt_by_writing(cache: Path) -> None:
    kitchen = Kitchen(cache)
    first, second = kitchen.make(), kitchen.make()
    maps = Path("/proc/self/maps").read_text().splitlines()
    assert sum(line.endswith(str(kitchen.folder / "images")) for line in maps) == 2
    first.images.zero_()
    assert torch.equal(second.images, torch.from_numpy(VALUES))
    assert kitchen.reads_nothing()


def test_splits_are_parts_of_the_mapped_values_and_not_copies(cache: Path) -> None:
    found = Kitchen(cache).make()
    lengths = [COUNT - 30, 20, 10]
    labels, factors = torch.arange(COUNT), torch.arange(2 * COUNT).view(COUNT, 2)
    data = found.splits(lengths, levels=256, labels=labels, factors=factors)
    assert data.labels
    assert data.factors
    parts = [data.train, data.validation, data.test]
    assert [len(part) for part in parts] == lengths
    ends = [found.images.data_ptr()]
    for part in parts:
        assert part.data_ptr() == ends[-1]
        ends.append(part.data_ptr() + part.nbytes)
    assert torch.equal(torch.cat(data.labels), labels)
    assert torch.equal(torch.cat(data.factors), factors)
    assert data.skipped == 0


BROKEN = {0, 7, CHUNK - 1, CHUNK, COUNT - 1}
GOOD = [position for position in range(COUNT) if position not in BROKEN]


def test_broken_example_is_an_error_that_says_which(cache: Path) -> None:
    with pytest.raises(DataError, match=r"^number 40 is broken$"):
        Kitchen(cache, broken={40}).make()


def test_broken_examples_are_left_out_and_counted_on_request(
    cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    kitchen = Kitchen(cache, broken=BROKEN)
    lengths = [CHUNK, COUNT - CHUNK - 9, 9]
    for _ in range(2):
        found = kitchen.make(skip_broken=True)
        assert torch.equal(found.images, torch.from_numpy(VALUES[GOOD]))
        assert found.kept.nonzero().flatten().tolist() == GOOD
        data = found.splits(lengths, levels=256, labels=torch.arange(COUNT))
        assert data.skipped == len(BROKEN)
        assert data.labels
        assert torch.cat(data.labels).tolist() == GOOD
        assert [len(data.train), len(data.validation), len(data.test)] == [
            CHUNK - 3,
            COUNT - CHUNK - 10,
            8,
        ]
    assert not kitchen.reads
    said = capfd.readouterr().err
    assert "test: 5 of them left out as broken, listed in" in said
    assert "the first: number 0 is broken" in said
    noted = json.loads((kitchen.folder / "ready.json").read_text())
    assert noted["broken"][str(CHUNK)] == f"number {CHUNK} is broken"
    # What one study leaves out, another one must not miss in silence.
    with pytest.raises(DataError, match="number 0 is broken"):
        kitchen.make()


def test_nothing_left_is_an_empty_tensor(cache: Path) -> None:
    found = Kitchen(cache, broken=set(range(COUNT))).make(skip_broken=True)
    assert found.images.shape == (0, 3, 4, 5)


@pytest.mark.parametrize("cores", [1, 4])
def test_interrupted_preparation_goes_on_with_the_chunks_that_are_missing(
    cache: Path, cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparing, "cores", lambda: cores)
    kitchen = Kitchen(cache, dead=CHUNK + 5)
    with pytest.raises(KeyboardInterrupt):
        kitchen.make()
    assert not (kitchen.folder / "ready.json").exists()
    # Nothing is lost but the chunk at fault, and no more was begun than was in work by then.
    begun = {position // CHUNK for position in kitchen.reads}
    assert kitchen.missing() == {p for p in range(COUNT) if p // CHUNK not in begun - {1}}
    assert len(begun) <= 1 + 2 * cores
    kitchen.dead = -1
    assert kitchen.reads_only(kitchen.missing())


@pytest.mark.parametrize(
    "torn", ['{"start": 0, "ch', "[]", "3", "", '{"start": 0, "checksum": 1}']
)
def test_torn_line_of_the_journal_costs_one_chunk(cache: Path, torn: str) -> None:
    kitchen = Kitchen(cache, dead=4 * CHUNK)
    with pytest.raises(KeyboardInterrupt):
        kitchen.make()
    journal = kitchen.folder / "journal"
    journal.write_text("\n".join([*journal.read_text().splitlines()[:2], torn]))
    missing = kitchen.missing()
    assert len(missing) == COUNT - 2 * CHUNK
    with pytest.raises(KeyboardInterrupt):
        kitchen.make()
    assert set(kitchen.reads) <= missing
    # The torn line has not spoilt the next one.
    assert len(kitchen.missing()) < len(missing)
    kitchen.dead = -1
    assert kitchen.reads_only(kitchen.missing())


def test_chunk_that_never_reached_the_disk_is_made_again(cache: Path) -> None:
    kitchen = Kitchen(cache, dead=3 * CHUNK)
    with pytest.raises(KeyboardInterrupt):
        kitchen.make()
    missing = kitchen.missing()
    assert CHUNK not in missing
    with (kitchen.folder / "images").open("r+b") as stream:
        stream.seek(60 * (CHUNK + 1))
        stream.write(bytes(60))
    kitchen.dead = -1
    assert kitchen.reads_only(missing | set(range(CHUNK, 2 * CHUNK)))


def test_end_after_moving_together_is_mended(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kitchen = Kitchen(cache, broken=BROKEN)
    with monkeypatch.context() as patch:
        patch.setattr(module, "_write_durably", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            kitchen.make(skip_broken=True)
    found = kitchen.make(skip_broken=True)
    assert torch.equal(found.images, torch.from_numpy(VALUES[GOOD]))


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "images").write_bytes(b"short"),
        lambda folder: (folder / "images").unlink(),
        lambda folder: (folder / "ready.json").write_text("{"),
        lambda folder: (folder / "ready.json").write_text('{"broken": 1}'),
        lambda folder: (folder / "ready.json").write_text('{"broken": {"x": "y"}}'),
        lambda folder: (folder / "ready.json").write_text("[]"),
        lambda folder: (folder / "ready.json").unlink(),
        shutil.rmtree,
    ],
)
def test_damaged_cache_is_made_anew(cache: Path, damage: Any) -> None:
    kitchen = Kitchen(cache)
    kitchen.make()
    damage(kitchen.folder)
    assert kitchen.reads_only(set(range(COUNT)))
    assert kitchen.reads_nothing()


def test_full_disk_is_said_before_it_is_full(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage(NamedTuple):
        free: int

    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: Usage(COUNT * 60 - 1))
    kitchen = Kitchen(cache)
    with pytest.raises(DataError, match=r"test needs 0.0 GB in .*set TUNE_VAE_CACHE"):
        kitchen.make()
    assert not kitchen.reads
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: Usage(COUNT * 60))
    assert kitchen.make().kept.all()


def test_cache_that_cannot_be_written_is_said_so(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.write_text("in the way")
    with pytest.raises(DataError, match=r"cannot be prepared in .*Not a directory.*VAE_CACHE"):
        Kitchen(cache).make()


def test_cache_is_where_people_expect_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    monkeypatch.setenv("TUNE_VAE_CACHE", "~/scratch")
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/ann")
    assert cache_folder() == Path("/home/ann/scratch")
    monkeypatch.delenv("TUNE_VAE_CACHE")
    assert cache_folder() == Path("/var/ann/tune_vae")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path("/home/ann/.cache/tune_vae")


def test_key_depends_on_texts_and_orders() -> None:
    order = torch.arange(3)
    keys = [key_of("a", order), key_of("b", order), key_of("a", order.flip(0)), key_of("a")]
    assert len(set(keys)) == 4
    assert key_of("a", order) == keys[0]
