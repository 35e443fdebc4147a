"""What `tune-vae serve` answers over HTTP, without MLflow behind it."""

import base64
import os
import stat
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn

from tests.servers import free_port
from tests.trials import study
from tests.unit.training.test_checkpoint import checkpoint
from tune_vae.errors import StorageError
from tune_vae.service import serve
from tune_vae.service.gate import Gate, application
from tune_vae.spec.study import SERVER, VARIABLES, StudySpec
from tune_vae.training.checkpoint import CheckpointStore, try_out
from tune_vae.training.served import TOKEN, request

WORD = "correct horse"
STORES = {"ledger": "postgresql+psycopg://me:pw@{host}:1/db", "tracking": "http://{server}"}


async def pages(scope, receive, send) -> None:  # noqa: ANN001
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"pages"})


@contextmanager
def served(folder: Path, *, token: str = "", local: bool = True) -> Iterator[str]:
    port = free_port()
    gate = Gate("127.0.0.1", port, str(folder / "files"), STORES, "", "", token, local)
    server = uvicorn.Server(
        uvicorn.Config(application(gate, pages), port=port, log_level="error", lifespan="off")
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.02)
        yield f"127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)


def code(address: str, **headers: str) -> int:
    try:
        asked = urllib.request.Request(f"http://{address}", headers=headers)
        with urllib.request.urlopen(asked, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def basic(word: str) -> str:
    return "Basic " + base64.b64encode(f"anybody:{word}".encode()).decode()


def test_with_a_token_nothing_is_answered_without_it(tmp_path: Path) -> None:
    with served(tmp_path, token=WORD, local=False) as address:
        for path in ("/", "/tune-vae/stores", "/tune-vae/files/a", "/api/2.0/mlflow/x"):
            assert code(address + path) == 401
            assert code(address + path, Authorization="Bearer wrong") == 401
            assert code(address + path, Authorization=basic("wrong")) == 401
            assert code(address + path, Authorization="Basic ~~") == 401
        for right in (f"Bearer {WORD}", basic(WORD)):
            assert code(address + "/", Authorization=right) == 200
            assert code(address + "/tune-vae/stores", Authorization=right) == 200


def test_on_the_loopback_only_names_of_this_machine_are_answered(tmp_path: Path) -> None:
    with served(tmp_path) as address:
        assert code(address + "/tune-vae/stores") == 200
        assert code(address + "/tune-vae/stores", Host="evil.example:80") == 403
    with served(tmp_path, token=WORD, local=False) as address:
        right = {"Authorization": f"Bearer {WORD}", "Host": "tuner.example:80"}
        assert code(address + "/tune-vae/stores", **right) == 200


def test_files_are_as_in_a_folder(tmp_path: Path) -> None:
    with served(tmp_path) as address:
        assert abs(try_out(f"tunevae://{address}/checkpoints") - time.time()) < 5
        store = CheckpointStore(f"tunevae://{address}/checkpoints", "study", {3: 7})
        assert store.last(3) is None
        assert store.unpublished() == set()
        for epoch in (1, 2, 3):
            store.save_last(3, checkpoint(epoch=epoch))
            store.save_best(3, checkpoint(epoch=epoch))
        folder = tmp_path / "files" / "checkpoints" / "study" / "00003"
        names = {file.name for file in folder.iterdir()}
        assert names == {f"{kind}-7-{n:04d}.pt" for kind in ("last", "best") for n in (2, 3)}
        last = store.last(3)
        assert last is not None
        assert last["epoch"] == 3
        assert store.unpublished() == {3}
        store.publish(3, 3)
        assert {file.name for file in folder.iterdir()} == {"best.pt", "last-7-0003.pt"}
        assert store.unpublished() == set()
        store.discard(3)
        assert not folder.exists()
        store.discard(3)


def test_nothing_outside_the_folder_is_read_or_written(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hunter2")
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "link").symlink_to(tmp_path / "secret")
    with served(tmp_path) as address:
        assert code(f"{address}/tune-vae/files/%2e%2e/secret") == 404
        assert code(f"{address}/tune-vae/files//etc/passwd") == 404
        for path in ("../secret", "a/../../secret", "link"):
            for method in ("GET", "PUT", "DELETE"):
                with pytest.raises(OSError, match="404"):
                    request(address, f"files/{path}", method, b"x" if method == "PUT" else None)
    assert (tmp_path / "secret").read_text() == "hunter2"


def test_machine_that_joins_gets_the_stores_but_those_it_names_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (*VARIABLES.values(), SERVER, "MLFLOW_TRACKING_TOKEN"):
        # So that it is as before afterwards.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv(TOKEN, WORD)
    monkeypatch.setenv("TUNE_VAE_TRACKING", "http://other")
    with served(tmp_path, token=WORD, local=False) as address:
        serve.join(address)
    assert os.environ["TUNE_VAE_LEDGER"] == "postgresql+psycopg://me:pw@127.0.0.1:1/db"
    assert os.environ["TUNE_VAE_TRACKING"] == "http://other"
    assert os.environ["MLFLOW_TRACKING_TOKEN"] == WORD
    file = tmp_path / "study.yaml"
    file.write_text(study().text)
    assert StudySpec.load(file).operand == f"{file} --server {address}"


def test_machine_with_another_token_is_told_where_the_right_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN, "wrong")
    with (
        served(tmp_path, token=WORD, local=False) as address,
        pytest.raises(StorageError, match="wants its token: set TUNE_VAE_TOKEN") as told,
    ):
        serve.join(address)
    assert "wrong" not in str(told.value)


def test_address_without_a_server_is_told() -> None:
    with pytest.raises(StorageError, match=r"no `tune-vae serve` answers at 127\.0\.0\.1:"):
        serve.join(f"127.0.0.1:{free_port()}")


def test_secrets_are_made_once_and_read_by_nobody_else(tmp_path: Path) -> None:
    made = serve._secrets(tmp_path)
    assert made == serve._secrets(tmp_path)
    assert len(set(made.values())) == 2
    for name in ("token", "database-password"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


def test_folder_is_served_once_at_a_time(tmp_path: Path) -> None:
    with (
        serve._only_one(tmp_path),
        pytest.raises(StorageError, match="is being served already"),
        serve._only_one(tmp_path),
    ):
        pass
