"""The Ray of a search, with Ray itself."""

import contextlib
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before Ray, because it makes Ray's settings.
from tune_vae.service import node  # isort: skip
import ray

from tests.searching import wait_until
from tests.trials import study
from tune_vae.errors import StorageError

pytestmark = pytest.mark.skipif(not Path("/proc").exists(), reason="looks for processes in /proc")


def processes(folder: Path) -> list[str]:
    """Commands of those that were told of a folder, as all of a node are."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            command = file.read_text(errors="replace").replace("\0", " ")
            if str(folder) in command:
                found.append(command)
    return found


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where nodes keep what they write; its path is short, as sockets must have it."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        monkeypatch.setattr(node, "_temporary", lambda: name)
        yield Path(name)
        wait_until(lambda: not processes(Path(name)), what="all processes end")
        assert list(Path(name).iterdir()) == []


def test_node_that_was_begun_is_the_one_that_a_search_gets(folder: Path) -> None:
    spec = study(folder)
    with node.begun(spec, verbose=False):
        (begun,) = folder.iterdir()
        with node.entered(spec, verbose=False) as scratch:
            assert scratch == begun
            assert ray.cluster_resources()["CPU"] == len(os.sched_getaffinity(0))
            names = " ".join(processes(folder))
            assert "raylet" in names
            # Which nobody would look at.
            assert not any(word in names for word in ("dashboard.py", "monitor.py"))
        assert not ray.is_initialized()


def test_node_that_nobody_needs_ends(folder: Path) -> None:
    with pytest.raises(ValueError, match="a mistake"), node.begun(study(folder), verbose=False):
        raise ValueError("a mistake in the study")
    assert not ray.is_initialized()


def test_named_cluster_is_the_only_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("RAY_ADDRESS", address)
    spec = study(folder)
    with node.begun(spec, verbose=False):
        assert list(folder.iterdir()) == []
        with (
            pytest.raises(StorageError, match=f"the Ray cluster at {address}"),
            node.entered(spec, verbose=False),
        ):
            pass


def test_node_that_cannot_start_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise Exception("The current node timed out during startup")

    monkeypatch.setattr(ray, "init", refuse)
    spec = study(folder)
    with (
        node.begun(spec, verbose=False),
        pytest.raises(StorageError, match="Ray on this machine: The current node"),
        node.entered(spec, verbose=False),
    ):
        pass
