"""Checkpoints on a real disk, which fills up, tears and is tampered with."""

import contextlib
import io
import os
import pickle
import random
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tune_vae.errors import CheckpointError, StorageError
from tune_vae.training.checkpoint import CheckpointStore, is_sound, load, save, try_out

CHECKPOINT = {
    "theta": torch.arange(2000, dtype=torch.float64),
    "buffers": {"variance": torch.tensor(0.5)},
    "alive": torch.tensor(True),
    "epoch": 3,
    "reports": [{"epoch": 1, "rate_per_latent_nats": [0.1, float("nan")]}],
    "config": "{}",
}


def checkpoint(epoch: int) -> dict[str, object]:
    return CHECKPOINT | {"epoch": epoch}


@contextlib.contextmanager
def full_disk(after_bytes: int = 4096) -> Iterator[None]:
    """No file of this process can grow beyond that, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (after_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class Bomb:
    """Runs code when it is unpickled."""

    def __init__(self, crater: Path) -> None:
        self.crater = crater

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.crater),)


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "last.pt"
    save(CHECKPOINT, path)
    loaded = load(path)
    assert loaded.keys() == CHECKPOINT.keys()
    assert torch.equal(loaded["theta"], CHECKPOINT["theta"])
    assert loaded["theta"].dtype == torch.float64
    assert loaded["alive"].dtype == torch.bool
    assert loaded["buffers"]["variance"] == 0.5
    assert str(loaded["reports"]) == str(CHECKPOINT["reports"])
    assert [file.name for file in path.parent.iterdir()] == ["last.pt"]


def test_failing_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save(checkpoint(1), path)
    with full_disk(), pytest.raises(StorageError, match=r"cannot write .*last\.pt"):
        save(checkpoint(2), path)
    assert load(path)["epoch"] == 1
    assert list(tmp_path.iterdir()) == [path]


def test_value_that_cannot_be_saved_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save(checkpoint(1), path)
    with pytest.raises((AttributeError, pickle.PicklingError)):
        save(CHECKPOINT | {"config": lambda: None}, path)
    assert load(path)["epoch"] == 1
    assert list(tmp_path.iterdir()) == [path]


def test_folder_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "study").write_text("a file where the folder should be")
    with pytest.raises(StorageError, match="cannot write "):
        save(CHECKPOINT, tmp_path / "study" / "last.pt")


def test_absent_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no checkpoint at .*nowhere\.pt"):
        load(tmp_path / "nowhere.pt")


def test_folder_in_place_of_a_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        load(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_torn_checkpoint_is_refused(tmp_path: Path, share: float) -> None:
    path = tmp_path / "last.pt"
    save(CHECKPOINT, path)
    os.truncate(path, int(share * path.stat().st_size))
    with pytest.raises(CheckpointError, match=r"last\.pt is not a readable checkpoint: \S"):
        load(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_checkpoint_is_refused_and_never_run(tmp_path: Path, zipped: bool) -> None:
    path, crater = tmp_path / "last.pt", tmp_path / "crater"
    content = CHECKPOINT | {"config": Bomb(crater)}
    if zipped:
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        load(path)
    assert not crater.exists()
    if not zipped:  # The bomb is real: pickle itself sets it off.
        pickle.load(io.BytesIO(path.read_bytes()))
        assert crater.exists()


def test_garbage_is_refused_in_one_way_only(tmp_path: Path) -> None:
    """The unpickler meets damage as KeyError, IndexError, UnicodeDecodeError and others."""
    path, generator = tmp_path / "last.pt", random.Random(0)
    whole = pickle.dumps({"theta": [1, 2.5, "abc", {}], "epoch": 3}, protocol=2)
    for _ in range(300):
        garbage = bytearray(whole[: generator.randrange(len(whole))])
        garbage += generator.randbytes(generator.randrange(20))
        path.write_bytes(garbage)
        with pytest.raises(CheckpointError):
            load(path)


@pytest.mark.parametrize("stranger", [{"weights": torch.zeros(3)}, torch.zeros(3), [1]], ids=str)
def test_file_of_another_program_is_refused(tmp_path: Path, stranger: object) -> None:
    path = tmp_path / "last.pt"
    torch.save(stranger, path)
    with pytest.raises(CheckpointError, match="not a checkpoint of tune_vae"):
        load(path)


def test_bit_that_fell_over_is_noticed(tmp_path: Path) -> None:
    """torch itself loads such a file without a word, with other weights."""
    path, generator = tmp_path / "last.pt", random.Random(0)
    save(CHECKPOINT, path)
    whole = path.read_bytes()
    refused = 0
    for _ in range(200):
        damaged = bytearray(whole)
        damaged[generator.randrange(len(whole))] ^= 1 << generator.randrange(8)
        path.write_bytes(damaged)
        try:
            assert same(load(path), CHECKPOINT)
        except CheckpointError:
            refused += 1
    # What is left are bits that say nothing, such as a date.
    assert refused > 150


def same(one: dict[str, object], other: dict[str, object]) -> bool:
    def plain(checkpoint: dict[str, object]) -> str:
        return repr({key: value for key, value in checkpoint.items() if key != "theta"})

    return bool(torch.equal(one["theta"], other["theta"])) and plain(one) == plain(other)


def names(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


def test_store_keeps_the_newest_two_of_each_kind_for_each_trial(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, "study", {12: 7})
    for trial in (0, 12):
        for epoch in (1, 2, 3, 10):
            store.save_last(trial, checkpoint(epoch))
        store.save_best(trial, checkpoint(2))
    assert names(tmp_path) == [
        f"study/{trial}/{kind}-{attempt}-{epoch}.pt"
        for trial, attempt in (("00000", 0), ("00012", 7))
        for kind, epoch in (("best", "0002"), ("last", "0003"), ("last", "0010"))
    ]
    assert epoch_of(store.last(12)) == 10
    assert epoch_of(store.best(12, 2)) == 2
    assert store.best(12, 3) is None


def epoch_of(found: dict[str, object] | None) -> object:
    assert found is not None
    return found["epoch"]


def test_newer_attempt_counts_whatever_an_older_one_writes_afterwards(tmp_path: Path) -> None:
    older, newer = (CheckpointStore(tmp_path, "study", {0: attempt}) for attempt in (9, 10))
    for epoch in (1, 2):
        older.save_last(0, checkpoint(epoch))
        older.save_best(0, checkpoint(epoch))
    newer.save_last(0, checkpoint(3) | {"config": "newer"})
    for epoch in (3, 4, 5):
        older.save_last(0, checkpoint(epoch) | {"config": "older"})
    last = newer.last(0)
    assert epoch_of(last) == 3
    assert last is not None
    assert last["config"] == "newer"
    # The best epoch is as it was: nobody removed it, and a later one of the other is not taken.
    older.save_best(0, checkpoint(3) | {"config": "older"})
    assert epoch_of(newer.best(0, 2)) == 2
    newer.save_best(0, checkpoint(3) | {"config": "newer"})
    best = newer.best(0, 3)
    assert best is not None
    assert best["config"] == "newer"


def test_attempt_that_begins_to_write_late_removes_nothing_of_a_newer_one(tmp_path: Path) -> None:
    newer = CheckpointStore(tmp_path, "study", {0: 10})
    for epoch in (3, 4):
        newer.save_last(0, checkpoint(epoch))
    late = CheckpointStore(tmp_path, "study", {0: 9})
    for epoch in (3, 4, 5):
        late.save_last(0, checkpoint(epoch))
    kept = {f"study/00000/last-10-{epoch}.pt" for epoch in ("0003", "0004")}
    assert kept <= set(names(tmp_path))


def test_new_owner_clears_what_the_one_before_left(tmp_path: Path) -> None:
    older = CheckpointStore(tmp_path, "study", {0: 1})
    for epoch in (1, 2):
        older.save_last(0, checkpoint(epoch))
    newer = CheckpointStore(tmp_path, "study", {0: 4})
    for epoch in (3, 4):
        newer.save_last(0, checkpoint(epoch))
    assert names(tmp_path) == ["study/00000/last-4-0003.pt", "study/00000/last-4-0004.pt"]


def test_ended_trial_has_its_best_under_a_plain_name_and_the_last(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, "study")
    for epoch in (1, 2, 3):
        store.save_last(5, checkpoint(epoch))
        if epoch < 3:
            store.save_best(5, checkpoint(epoch))
    assert store.unpublished() == {5}
    for _ in range(2):
        store.publish(5, 2)
        assert names(tmp_path) == ["study/00005/best.pt", "study/00005/last-0-0003.pt"]
    assert load(store.path(5, "best.pt"))["epoch"] == 2
    assert epoch_of(store.best(5, 2)) == 2
    assert epoch_of(store.last(5)) == 3
    assert store.unpublished() == set()


def test_trial_that_ended_without_a_best_epoch_is_only_tidied(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, "study")
    for epoch in (1, 2):
        store.save_last(5, checkpoint(epoch))
    store.publish(5, None)
    assert names(tmp_path) == ["study/00005/last-0-0002.pt"]


def test_files_of_an_earlier_version_are_read_where_there_are_no_newer_ones(
    tmp_path: Path,
) -> None:
    store = CheckpointStore(tmp_path, "study")
    for name, epoch in (("previous.pt", 4), ("last.pt", 5), ("best.pt", 3)):
        save(checkpoint(epoch), store.path(0, name))
    assert epoch_of(store.last(0)) == 5
    assert epoch_of(store.best(0, 3)) == 3
    os.truncate(store.path(0, "last.pt"), 100)
    assert epoch_of(store.last(0)) == 4
    store.save_last(0, checkpoint(5))
    assert epoch_of(store.last(0)) == 5


def test_store_without_a_checkpoint_has_none(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, "study")
    assert store.last(0) is None
    assert store.best(0, 1) is None
    assert store.unpublished() == set()
    store.discard(0)


def test_discarded_trial_leaves_nothing_and_begins_anew(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, "study")
    store.save_last(0, checkpoint(7))
    store.save_last(1, checkpoint(1))
    store.discard(0)
    assert names(tmp_path) == ["study/00001/last-0-0001.pt"]
    store.save_last(0, checkpoint(1))
    assert epoch_of(store.last(0)) == 1


def test_torn_last_checkpoint_is_replaced_by_the_previous(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, "study")
    store.save_last(0, checkpoint(1))
    store.save_last(0, checkpoint(2))
    last, previous = store.files(0, "last")
    os.truncate(last, 100)
    assert epoch_of(store.last(0)) == 1
    os.truncate(previous, 100)
    assert store.last(0) is None


UNSOUND = {
    "dead": {"alive": torch.tensor(False)},
    "theta": {"theta": torch.tensor([1.0, torch.inf])},
    "moment": {"second": torch.tensor([torch.nan])},
    "buffer": {"buffers": {"variance": torch.tensor(torch.nan), "seed": torch.tensor(3)}},
}


def test_training_goes_on_from_the_newest_that_is_sound(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, "study")
    assert store.last_sound(4) is None
    store.save_last(4, checkpoint(1))
    store.save_last(4, checkpoint(2))
    assert store.last_sound(4)["epoch"] == 2


@pytest.mark.parametrize("fault", UNSOUND)
def test_state_of_a_lost_member_is_not_gone_on_from(tmp_path: Path, fault: str) -> None:
    store = CheckpointStore(tmp_path, "study")
    store.save_last(4, checkpoint(1))
    store.save_last(4, checkpoint(2) | UNSOUND[fault])
    assert not is_sound(checkpoint(2) | UNSOUND[fault])
    assert store.last(4)["epoch"] == 2
    assert store.last_sound(4)["epoch"] == 1
    store.save_last(4, checkpoint(3) | UNSOUND[fault])
    assert store.last_sound(4) is None


def test_trial_goes_on_saving_after_a_torn_file(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, "study")
    store.save_last(0, checkpoint(1))
    os.truncate(store.files(0, "last")[0], 100)
    store.save_last(0, checkpoint(2))
    assert epoch_of(store.last(0)) == 2


def test_full_disk_leaves_the_newest_state_that_could_be_written(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, "study")
    store.save_last(0, checkpoint(1))
    for epoch in (2, 3):
        with full_disk(), pytest.raises(StorageError):
            store.save_last(0, checkpoint(epoch))
        assert epoch_of(store.last(0)) == 1
    store.save_last(0, checkpoint(4))
    assert epoch_of(store.last(0)) == 4
    assert not list(tmp_path.rglob("*.partial"))


def test_folder_that_cannot_be_read_is_not_taken_for_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trial would begin anew and remove what it had."""
    store = CheckpointStore(tmp_path, "study")
    store.save_last(0, checkpoint(3))

    def broken(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "scandir", broken)
    with pytest.raises(StorageError, match=r"cannot list .*study/00000/: .*Input/output error"):
        store.last(0)


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("gopher://host/folder", "Protocol not known: gopher"),
        ("s3:no/such://x", "Protocol not known"),
    ],
)
def test_place_that_nothing_can_reach_is_a_storage_error_at_once(place: str, says: str) -> None:
    with pytest.raises(StorageError, match=says):
        save(CHECKPOINT, f"{place}/last.pt")
    with pytest.raises(StorageError, match=says):
        CheckpointStore(place, "study").last(0)


def test_place_is_tried_out_and_left_as_it_was(tmp_path: Path) -> None:
    before = time.time()
    there = try_out(tmp_path)
    # Files have the time of the kernel's last tick.
    assert before - 0.1 <= there <= time.time()
    assert list(tmp_path.iterdir()) == []


def test_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file where the folder should be")
    with pytest.raises(StorageError, match=r"cannot use .*file"):
        try_out(tmp_path / "file")
    with full_disk(after_bytes=0), pytest.raises(StorageError, match="File too large"):
        try_out(tmp_path)
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../up", "a/b", "/root", "a\\b", ".hidden", "-rf", "two words", "x\n", "é"],
)
def test_name_that_is_no_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(StorageError, match="cannot be the name of a folder"):
        CheckpointStore(tmp_path, name)


@pytest.mark.parametrize("name", ["celeba", "Run-2", "a.b_c", "7"])
def test_plain_name_is_a_folder(tmp_path: Path, name: str) -> None:
    assert CheckpointStore(tmp_path, name).folder == str(tmp_path / name)
