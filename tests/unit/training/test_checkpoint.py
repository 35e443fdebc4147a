"""Checkpoints on a real disk, which fills up, tears and is tampered with."""

import contextlib
import io
import os
import pickle
import random
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tune_vae.errors import CheckpointError, StorageError
from tune_vae.training.checkpoint import CheckpointStore, is_sound, load, save

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
    with full_disk(), pytest.raises(StorageError, match=r"cannot write the checkpoint .*last\.pt"):
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
    with pytest.raises(StorageError, match="cannot write the checkpoint"):
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


def test_store_keeps_last_previous_and_best_of_each_trial(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, "study")
    for trial in (0, 12):
        for epoch in (1, 2, 3):
            store.save_last(trial, checkpoint(epoch))
        store.save_best(trial, checkpoint(2))
    files = sorted(str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*.pt"))
    assert files == [
        f"study/{trial}/{name}.pt"
        for trial in ("00000", "00012")
        for name in ("best", "last", "previous")
    ]
    epochs = {name: load(store.path(12, name))["epoch"] for name in ("best", "last", "previous")}
    assert epochs == {"best": 2, "last": 3, "previous": 2}
    assert store.last(12)["epoch"] == 3


def test_store_without_a_checkpoint_has_none(tmp_path: Path) -> None:
    assert CheckpointStore(tmp_path, "study").last(0) is None


def test_torn_last_checkpoint_is_replaced_by_the_previous(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, "study")
    store.save_last(0, checkpoint(1))
    store.save_last(0, checkpoint(2))
    os.truncate(store.path(0, "last"), 100)
    assert store.last(0)["epoch"] == 1
    os.truncate(store.path(0, "previous"), 100)
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
    os.truncate(store.path(0, "last"), 100)
    store.save_last(0, checkpoint(2))
    assert store.last(0)["epoch"] == 2


def test_full_disk_leaves_the_newest_state_that_could_be_written(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, "study")
    store.save_last(0, checkpoint(1))
    for epoch in (2, 3):
        with full_disk(), pytest.raises(StorageError):
            store.save_last(0, checkpoint(epoch))
        assert store.last(0)["epoch"] == 1
    store.save_last(0, checkpoint(4))
    assert store.last(0)["epoch"] == 4
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../up", "a/b", "/root", "a\\b", ".hidden", "-rf", "two words", "x\n", "é"],
)
def test_name_that_is_no_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(StorageError, match="cannot be the name of a folder"):
        CheckpointStore(tmp_path, name)


@pytest.mark.parametrize("name", ["celeba", "Run-2", "a.b_c", "7"])
def test_plain_name_is_a_folder(tmp_path: Path, name: str) -> None:
    assert CheckpointStore(tmp_path, name).folder == tmp_path / name
