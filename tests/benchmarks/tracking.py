"""What showing trials costs them, at one second per epoch.

`python -m tests.benchmarks.tracking` trains the same trial with and without MLflow in turns, and
prints a row per store: an SQLite file, a server on this machine, and one that answers 50 ms late.
As in a search, the owner of the ledger and the pages lives in a process of its own, whose answers
the trial waits for. An epoch is a small training and a second of sleep, as where a core is free or
a GPU trains; what the owner's CPU has to do for it stands beside it, because where no core is free
a trial would wait for that.
"""

import argparse
import multiprocessing
import queue
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import torch

from tests.servers import MlflowServer
from tests.trials import DIGEST, LEVELS, SHAPE, study
from tune_vae.data import Splits
from tune_vae.data.datasets.digits import Digits
from tune_vae.service import journey, tracking
from tune_vae.service.desk import DataFacts, Desk
from tune_vae.spec.study import StudySpec
from tune_vae.training.checkpoint import CheckpointStore

EPOCH_SECONDS = 1.0
LATE_SECONDS = 0.05
STORES = {"file": "SQLite", "server": "server", "late": "server, 50 ms late"}
UNANSWERED = "log"
"""What a worker of a search tells its owner without waiting."""


class Unshown:
    """A tracker that shows nothing."""

    trouble = ""
    _spool = SimpleNamespace(_connected=True)

    def __init__(self, *_: object, **__: object) -> None: ...

    def __getattr__(self, name: str) -> Callable[..., bool]:
        return lambda *_, **__: True


class Undrawn(CheckpointStore):
    """A place for checkpoints that says of every epoch that it was drawn."""

    def drawn(self, trial: int) -> list[int]:
        return list(range(1_000_000))


def own(spec: StudySpec, shown: bool, pipe: "Connection") -> None:
    """The owner's process; at the end it tells how long its CPU worked, and for how long more."""
    if not shown:
        tracking.MlflowTracker = Unshown  # type: ignore[misc,assignment]
    desk = Desk(spec, DataFacts(SHAPE, LEVELS, DIGEST))
    while not desk._tracker._spool._connected:
        time.sleep(0.1)
    begun = time.process_time()
    pipe.send(None)
    while (asked := pipe.recv()) is not None:
        name, arguments = asked
        answer = getattr(desk, name)(*arguments)
        if name != UNANSWERED:
            pipe.send(answer)
    ended = time.monotonic()
    whole = desk.close()
    pipe.send((time.process_time() - begun, time.monotonic() - ended, whole))


class Owner:
    """The owner as a worker sees it: `journey.Ledger` and `journey.Tracker`."""

    def __init__(self, spec: StudySpec, *, shown: bool) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, there = context.Pipe()
        self._process = context.Process(target=own, args=(spec, shown, there))
        self._process.start()
        self._pipe.recv()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def ask(*arguments: object) -> Any:
            self._pipe.send((name, arguments))
            return None if name == UNANSWERED else self._pipe.recv()

        return ask

    def end(self) -> tuple[float, float, bool]:
        """CPU seconds of its work, those after the last trial, and whether all was shown."""
        self._pipe.send(None)
        told: tuple[float, float, bool] = self._pipe.recv()
        self._process.join()
        return told


class LateServer:
    """Hands on what a server is asked, and what it answers, half of the lateness later each."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._door = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._door.getsockname()[1]}"

    def _accept(self) -> None:
        while True:
            guest, _ = self._door.accept()
            host = socket.create_connection(("127.0.0.1", self._port))
            for source, target in ((guest, host), (host, guest)):
                pieces: queue.Queue[tuple[float, bytes]] = queue.Queue()
                for work, end in ((self._take, source), (self._give, target)):
                    threading.Thread(target=work, args=(end, pieces), daemon=True).start()

    @staticmethod
    def _take(source: socket.socket, pieces: "queue.Queue[tuple[float, bytes]]") -> None:
        piece = b"first"
        while piece:
            try:
                piece = source.recv(2**16)
            except OSError:
                piece = b""
            pieces.put((time.monotonic() + LATE_SECONDS / 2, piece))

    @staticmethod
    def _give(target: socket.socket, pieces: "queue.Queue[tuple[float, bytes]]") -> None:
        while True:
            due, piece = pieces.get()
            time.sleep(max(0.0, due - time.monotonic()))
            try:
                if not piece:
                    target.shutdown(socket.SHUT_WR)
                    return
                target.sendall(piece)
            except OSError:
                return


def trial_seconds(owner: Owner, spec: StudySpec, data: Splits, store: CheckpointStore) -> float:
    """Wall time of one trial, from its first step until its end is committed."""
    pack = owner.ask()
    begin = time.monotonic()
    for _ in journey.run_pack(
        pack,
        data=data,
        limits=spec.health,
        ledger=owner,  # type: ignore[arg-type]
        tracker=owner,  # type: ignore[arg-type]
        store=store,
    ):
        time.sleep(EPOCH_SECONDS)
    return time.monotonic() - begin


def measure(name: str, spec: StudySpec, data: Splits, rounds: int) -> str:
    """A row of the table."""
    bare = replace(spec, name=f"{spec.name}-without")
    place, epochs = spec.storage.checkpoints, spec.train.epochs
    with_it, without = Owner(spec, shown=True), Owner(bare, shown=False)
    there, here = CheckpointStore(place, spec.name), Undrawn(place, bare.name)
    ratios, alone = [], []
    for _ in range(rounds):
        alone.append(trial_seconds(without, bare, data, here))
        ratios.append(trial_seconds(with_it, spec, data, there) / alone[-1])
    cpu, after, whole = with_it.end()
    cpu_without, _, _ = without.end()
    assert whole, "not all was shown"
    return (
        f"| {name} | {median(alone) / epochs:.2f} | {median(ratios) - 1:+.1%} | "
        f"{(cpu - cpu_without) / rounds / epochs:.3f} | {after:.1f} |"
    )


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--epochs", type=int, default=20)
    asked.add_argument("--rounds", type=int, default=2)
    asked.add_argument("--stores", nargs="+", choices=STORES, default=list(STORES))
    given = asked.parse_args()
    torch.set_num_threads(1)
    digits = Digits().load()
    data = replace(digits, train=digits.train[:256], labels=None)

    def of(folder: Path, name: str, **storage: str) -> StudySpec:
        return study(
            folder,
            study=name,
            search={"beta_norm": 0.01, "lr": 3e-3},
            pruner="NopPruner",
            train={"epochs": given.epochs},
            budget={"trials": 1000},
            storage=storage,
        )

    print(
        "| MLflow | s per epoch without | trial's wall time | owner's CPU, s per epoch "
        "| s until all is shown |\n|---|--:|--:|--:|--:|"
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "file" in given.stores:
            print(measure(STORES["file"], of(folder, "file"), data, given.rounds), flush=True)
        if set(given.stores) == {"file"}:
            return
        server = MlflowServer(folder)
        server.start()
        try:
            late = LateServer(int(server.url.rpartition(":")[2]))
            for store, url in (("server", server.url), ("late", late.url)):
                if store in given.stores:
                    spec = of(folder, store, tracking=url)
                    print(measure(STORES[store], spec, data, given.rounds), flush=True)
        finally:
            server.stop()


if __name__ == "__main__":
    main()
