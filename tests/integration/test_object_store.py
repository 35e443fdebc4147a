"""Checkpoints in a bucket, over HTTP."""

import io
import os
import pickle
import time
from pathlib import Path

import fsspec
import pytest
import torch

from tests.unit.training.test_checkpoint import CHECKPOINT, Bomb, checkpoint, epoch_of
from tune_vae.errors import CheckpointError, StorageError
from tune_vae.training import checkpoint as module
from tune_vae.training.checkpoint import CheckpointStore, load, save, try_out


def names(root: str) -> list[str]:
    files = fsspec.filesystem("s3", use_listings_cache=False)
    return sorted(name.removeprefix("vae/") for name in files.find(root))


def test_what_was_put_into_a_bucket_is_loaded_from_it(bucket: str) -> None:
    save(CHECKPOINT, f"{bucket}/one/last.pt")
    loaded = load(f"{bucket}/one/last.pt")
    assert torch.equal(loaded["theta"], CHECKPOINT["theta"])
    assert str(loaded["reports"]) == str(CHECKPOINT["reports"])
    with pytest.raises(CheckpointError, match=r"no checkpoint at s3://vae/one/first\.pt"):
        load(f"{bucket}/one/first.pt")


def test_store_in_a_bucket_keeps_and_publishes_what_one_in_a_folder_does(bucket: str) -> None:
    store = CheckpointStore(f"{bucket}/two", "study", {3: 8})
    assert store.last(3) is None
    assert store.unpublished() == set()
    for epoch in (1, 2, 3, 4):
        store.save_last(3, checkpoint(epoch))
        if epoch < 4:
            store.save_best(3, checkpoint(epoch))
    assert names(f"{bucket}/two") == [
        "two/study/00003/best-8-0002.pt",
        "two/study/00003/best-8-0003.pt",
        "two/study/00003/last-8-0003.pt",
        "two/study/00003/last-8-0004.pt",
    ]
    # Another machine, whose lists are its own.
    other = CheckpointStore(f"{bucket}/two", "study", {3: 9})
    assert epoch_of(other.last(3)) == 4
    other.save_last(3, checkpoint(5))
    assert epoch_of(store.last(3)) == 5
    assert store.unpublished() == {3}
    store.publish(3, 3)
    assert names(f"{bucket}/two") == [
        "two/study/00003/best.pt",
        "two/study/00003/last-9-0005.pt",
    ]
    assert epoch_of(other.best(3, 3)) == 3
    store.discard(3)
    assert names(f"{bucket}/two") == []


def test_torn_object_is_passed_over(bucket: str) -> None:
    store = CheckpointStore(f"{bucket}/three", "study")
    store.save_last(0, checkpoint(1))
    store.save_last(0, checkpoint(2))
    files, last = fsspec.filesystem("s3"), store.files(0, "last")[0]
    files.pipe_file(last, files.cat_file(last)[:-50])
    assert epoch_of(store.last(0)) == 1


def test_code_in_a_bucket_is_never_run(bucket: str, tmp_path: Path) -> None:
    crater, buffer = tmp_path / "crater", io.BytesIO()
    torch.save(CHECKPOINT | {"config": Bomb(crater)}, buffer)
    for content in (buffer.getvalue(), pickle.dumps({"theta": Bomb(crater)})):
        fsspec.filesystem("s3").pipe_file(f"{bucket}/bomb.pt", content)
        with pytest.raises(CheckpointError, match="not a readable checkpoint"):
            load(f"{bucket}/bomb.pt")
    assert not crater.exists()


def test_bucket_that_is_not_there_is_told_at_once(bucket: str) -> None:
    begin = time.monotonic()
    with pytest.raises(StorageError, match=r"cannot write s3://none/x/last\.pt: .*bucket"):
        save(CHECKPOINT, "s3://none/x/last.pt")
    with pytest.raises(StorageError, match="cannot use s3://none/x"):
        try_out("s3://none/x")
    assert time.monotonic() - begin < 20


def test_bucket_is_tried_out_and_left_as_it_was(bucket: str) -> None:
    before = time.time()
    there = try_out(f"{bucket}/four")
    assert before - 1 <= there <= time.time()
    assert names(f"{bucket}/four") == []


def test_store_that_does_not_answer_for_a_while_is_waited_for_and_then_told(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 2.0)
    answers = iter([OSError(5, "SlowDown"), TimeoutError(), None])
    tries: list[float] = []

    def flaky(files: object, path: str, data: bytes) -> None:
        tries.append(time.monotonic())
        error = next(answers)
        if error:
            raise error
        put(files, path, data)

    put = module._put
    monkeypatch.setattr(module, "_put", flaky)
    save(CHECKPOINT, f"{bucket}/five/last.pt")
    assert len(tries) == 3
    assert load(f"{bucket}/five/last.pt")["epoch"] == 3
    answers = iter([OSError(5, "SlowDown")] * 9)
    with pytest.raises(StorageError, match="SlowDown"):
        save(CHECKPOINT, f"{bucket}/five/last.pt")
    # A folder of this machine is not waited for: it would not mend itself.
    answers = iter([OSError(28, "No space left on device")])
    with pytest.raises(StorageError, match="No space left"):
        save(CHECKPOINT, Path(os.devnull).parent / "nothing.pt")


def test_server_that_is_gone_is_no_empty_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trial would begin anew and remove what it had."""
    pytest.importorskip("s3fs")
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "me")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    try:
        with pytest.raises(StorageError, match="Could not connect to the endpoint") as failure:
            CheckpointStore("s3://vae/one", "study").last(0)
        assert "hunter2" not in str(failure.value)
    finally:
        fsspec.get_filesystem_class("s3").clear_instance_cache()
