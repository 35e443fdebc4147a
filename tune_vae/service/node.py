"""The Ray of a search: of this machine's own, or a cluster that is named.

One of our own may be begun before PyTorch is imported, so that its processes, which import it as
well, do so at the same time.
"""

import logging
import os
import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tune_vae.errors import StorageError
from tune_vae.machine import cores
from tune_vae.spec.study import StudyOutline

_SETTINGS = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # Else Ray copies the folder that `uv run` stands in, and its workers write into the copy.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    # Of a desk that died, which is told in our own words.
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_THRESHOLD_S": "60",
}
_ALLOCATOR = {
    # Else glibc gives large tensors back to the system after each step and asks for them anew: a
    # third of the time of a pack of 16 went into page faults.
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
}
# Ray reads them when it is imported.
for _name, _value in _SETTINGS.items():
    os.environ.setdefault(_name, _value)

import ray  # noqa: E402

__all__ = ["address_of", "begun", "entered"]

PREFIX = "tune-vae-"
WATCH_SECONDS = 0.3
KNOCK_SECONDS = 10.0
_PRELOADED = "tune_vae.service.desk"
"""What the processes that wait for work import: the desk itself, and all that a worker needs."""
_SPARE = ("start_api_server", "start_monitor")
_LOGS = ("start_log_monitor",)
"""Steps of the start of Ray's node, each a Python process; the last carries what workers print."""


class _Node:
    """A Ray of this machine's own, which starts while others go on.

    Arguments:
        verbose: Whether Ray's own messages are shown.
    """

    def __init__(self, *, verbose: bool) -> None:
        _sweep()
        name = f"{PREFIX}{os.getpid()}-"
        self._scratch = Path(tempfile.mkdtemp(prefix=name, dir=_temporary()))
        self._verbose = verbose
        self._up, self._over = threading.Event(), threading.Event()
        self._failure: StorageError | None = None
        threading.Thread(target=self._live, name="ray", daemon=True).start()

    def _live(self) -> None:
        # Of this machine's workers, which have their environment from here.
        for name, value in _ALLOCATOR.items():
            os.environ.setdefault(name, value)
        try:
            with _sparing(*_SPARE, *(() if self._verbose else _LOGS)):
                _init(
                    "local",
                    "Ray on this machine",
                    verbose=self._verbose,
                    num_cpus=cores(),
                    include_dashboard=False,
                    object_store_memory=256 * 2**20,
                    _system_config={"preload_python_modules": [_PRELOADED]},
                    _temp_dir=str(self._scratch / "ray"),
                )
        except StorageError as error:
            self._failure = error
        self._up.set()
        # Linux ends the processes of a node together with the thread that started them.
        self._over.wait()

    def wait(self) -> Path:
        """Until it is up; returns a folder for what Ray writes.

        Raises:
            StorageError: It could not start.
        """
        self._up.wait()
        if self._failure:
            raise self._failure
        return self._scratch

    def end(self) -> None:
        self._up.wait()
        ray.shutdown()
        self._over.set()
        shutil.rmtree(self._scratch, ignore_errors=True)


_waiting: list[_Node] = []
"""The one that was begun and is not used yet."""


@contextmanager
def begun(study: StudyOutline, *, verbose: bool) -> Iterator[None]:
    """Begin with the Ray that a search within will need; it ends unused if there is none."""
    if not address_of(study):
        _waiting.append(_Node(verbose=verbose))
    try:
        yield
    finally:
        while _waiting:
            _waiting.pop().end()


@contextmanager
def entered(study: StudyOutline, *, verbose: bool) -> Iterator[Path]:
    """The Ray of a search for as long as it takes, with a folder for what Ray writes.

    Raises:
        StorageError: It does not start, or cannot be reached.
    """
    logging.getLogger("ray.tune").setLevel(logging.INFO if verbose else logging.CRITICAL)
    if address := address_of(study):
        with _joined(address, verbose=verbose) as scratch:
            yield scratch
        return
    node = _waiting.pop() if _waiting else _Node(verbose=verbose)
    try:
        scratch = node.wait()
        with _watching(f"tune-vae search {study.operand}"):
            yield scratch
    finally:
        node.end()


def address_of(study: StudyOutline) -> str | None:
    """Of the cluster that is named; None for one of our own."""
    return study.ray.address or os.environ.get("RAY_ADDRESS")


@contextmanager
def _joined(address: str, *, verbose: bool) -> Iterator[Path]:
    where = f"the Ray cluster at {address}"
    with tempfile.TemporaryDirectory(prefix=PREFIX, dir=_temporary()) as scratch:
        _knock(address, where)
        _init(address, where, verbose=verbose)
        try:
            yield Path(scratch)
        finally:
            ray.shutdown()


def _knock(address: str, where: str) -> None:
    """Find out in seconds whether anybody is there at all, for which Ray 2.60 takes minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not port.isdigit():
        # A word that Ray understands, such as auto.
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK_SECONDS).close()
    except OSError as error:
        raise StorageError(
            f"cannot start or reach {where}: {error}. See that it runs, and that `ray.address` of "
            "the study, or RAY_ADDRESS, is the one it printed at its start"
        ) from error


def _init(address: str, where: str, *, verbose: bool, **options: Any) -> None:
    # Else Ray 2.60 prints of each process that dies, whatever `log_to_driver` says.
    ray._private.worker._worker_logs_enabled = verbose
    try:
        ray.init(
            address=address,
            log_to_driver=verbose,
            logging_level=logging.INFO if verbose else logging.ERROR,
            **options,
        )
    except Exception as error:
        # Of a machine too busy to start in time Ray 2.60 says so by a bare Exception.
        raise StorageError(f"cannot start or reach {where}: {error}") from error


@contextmanager
def _sparing(*steps: str) -> Iterator[None]:
    """Start a node of Ray without some of its steps, in so far as this Ray has them.

    Ray 2.60 starts what counts its usage and what asks a cloud for machines on a node of its own,
    too, and waits for the first before it goes on; its `init` cannot be told otherwise.
    """
    node = ray._private.node.Node
    before = {step: getattr(node, step) for step in steps if hasattr(node, step)}
    for step in before:
        setattr(node, step, lambda *_, **__: None)
    try:
        yield
    finally:
        for step, its in before.items():
            setattr(node, step, its)


@contextmanager
def _watching(again: str) -> Iterator[None]:
    """End in words when a node of our own dies, as by want of memory.

    Ray 2.60 ends this process then, within a quarter of a minute and without a word, and no
    exception could be handled: its `shutdown` does the same.
    """
    node, over = ray._private.worker._global_node, threading.Event()

    def watch() -> None:
        while not over.wait(WATCH_SECONDS):
            if node is not None and any(name == "raylet" for name, _ in node.dead_processes()):
                shown = "\x1b[?25h\n" if sys.stderr.isatty() else ""
                sys.stderr.write(
                    f"{shown}error: Ray's own process on this machine died (too little memory?); "
                    f"everything is saved. Go on with: {again}\n"
                )
                sys.stderr.flush()
                os._exit(StorageError.exit_code)

    watcher = threading.Thread(target=watch, name="node", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _temporary() -> str:
    """Where Ray's sockets go, whose whole path may have about a hundred characters."""
    default = tempfile.gettempdir()
    return "/tmp" if len(default) > len("/var/tmp") and os.access("/tmp", os.W_OK) else default


def _sweep() -> None:
    """Remove what killed searches left in the temporary folder."""
    for folder in Path(_temporary()).glob(f"{PREFIX}*-*"):
        pid = folder.name.removeprefix(PREFIX).partition("-")[0]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists() and Path("/proc").exists():
            shutil.rmtree(folder, ignore_errors=True)
