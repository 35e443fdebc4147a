"""What showing trials costs them, at one second per epoch.

`python -m tests.benchmarks.tracking` trains the same trial with and without MLflow in turns, and
prints a row per store. As in a search, the tracker lives in a process of its own, and the trial's
process draws pictures and tells of epochs. Other programs make wall time useless as a measure of
a few percent, so time is that of the CPU: of the trial's process with against without, and of
the tracker's, which is the trial's loss only where no core is free.
"""

import argparse
import multiprocessing
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median

import torch

from tests.servers import MlflowServer
from tests.trials import DIGEST, study, trial_config
from tests.unit.service.fakes import Diary, FakeLedger
from tune_vae.data import Splits
from tune_vae.data.datasets.digits import Digits
from tune_vae.science.health import Limits, Verdict
from tune_vae.science.history import EpochReport, Rollback
from tune_vae.service import journey
from tune_vae.service.journey import TrialResult
from tune_vae.spec.study import StudySpec
from tune_vae.spec.trial import TrialConfig
from tune_vae.training.checkpoint import CheckpointStore
from tune_vae.training.trainer import Trainer

LATE_SECONDS = 0.05
NETWORK = {"mlp": {"hidden": [256, 256]}}


@dataclass
class Told:
    """A tracker as a worker sees it: every call is a message to the tracker's process."""

    pipe: "Connection | None"

    def log(self, report: EpochReport, verdict: Verdict) -> None:
        self._tell("log", report, verdict)

    def roll_back(self, trial: int, rollbacks: Sequence[Rollback]) -> None:
        self._tell("roll_back", trial, rollbacks)

    def conclude(self, result: TrialResult) -> None:
        self._tell("conclude", result)

    def open(self, config: TrialConfig) -> None:
        self._tell("open", config)

    def _tell(self, name: str, *told: object) -> None:
        if self.pipe:
            self.pipe.send((name, told))


class Undrawn(CheckpointStore):
    """A place for checkpoints that says of every epoch that it was drawn."""

    def drawn(self, trial: int) -> list[int]:
        return list(range(1_000_000))


def show(spec: StudySpec, pipe: "Connection") -> None:
    """The tracker's process; answers with its CPU seconds beyond those of its start."""
    from tune_vae.service.tracking import MlflowTracker

    store = CheckpointStore(spec.storage.checkpoints, spec.name)
    tracker = MlflowTracker(spec, digest=DIGEST, store=store)
    while not hasattr(tracker, "_study_run"):
        time.sleep(0.1)
    begun = time.process_time()
    pipe.send("ready")
    while (told := pipe.recv()) is not None:
        name, arguments = told
        getattr(tracker, name)(*arguments)
    whole = tracker.close()
    pipe.send((time.process_time() - begun, whole))


class LateServer:
    """Hands on what a server is asked, each piece a little later."""

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
            for pair, late in (((guest, host), LATE_SECONDS), ((host, guest), 0.0)):
                threading.Thread(target=self._hand_on, args=(*pair, late), daemon=True).start()

    def _hand_on(self, source: socket.socket, target: socket.socket, late: float) -> None:
        try:
            while piece := source.recv(2**16):
                time.sleep(late)
                target.sendall(piece)
        except OSError:
            pass
        finally:
            source.close()
            target.close()


def of_a_second(data: Splits, config: TrialConfig) -> Splits:
    """So many training images that an epoch takes one second of CPU."""
    member = config.member()
    spent = []
    epochs = iter(Trainer([member], data))
    for _ in range(3):
        begin = time.process_time()
        next(epochs)
        spent.append(time.process_time() - begin)
    times = max(1, round(1 / min(spent)))
    return replace(data, train=data.train.repeat(times, 1, 1, 1), labels=None)


def trial_seconds(
    config: TrialConfig, data: Splits, store: CheckpointStore, pipe: "Connection | None"
) -> float:
    """CPU seconds of one trial from its beginning to its end."""
    tracker = Told(pipe)
    begin = time.process_time()
    tracker.open(config)
    for _ in journey.run_pack(
        [config],
        data=data,
        limits=Limits(),
        ledger=FakeLedger(Diary(), {}),
        tracker=tracker,
        store=store,
    ):
        pass
    return time.process_time() - begin


def measure(name: str, spec: StudySpec, data: Splits, epochs: int, rounds: int) -> str:
    """A row of the table."""
    place = spec.storage.checkpoints
    here, there = multiprocessing.get_context("spawn").Pipe()
    other = multiprocessing.get_context("spawn").Process(target=show, args=(spec, there))
    other.start()
    here.recv()
    ratios, alone = [], []
    for trial in range(rounds):
        config = trial_config(trial, study=spec.name, epochs=epochs, network=NETWORK, seed=0)
        without = trial_seconds(config, data, Undrawn(f"{place}/without", spec.name), None)
        with_it = trial_seconds(config, data, CheckpointStore(place, spec.name), here)
        ratios.append(with_it / without)
        alone.append(without)
    here.send(None)
    cpu, whole = here.recv()
    other.join()
    shown = "" if whole else " (not all was shown)"
    return (
        f"| {name} | {median(alone) / epochs:.2f} | {median(ratios) - 1:+.1%} | "
        f"{cpu / sum(alone):.1%}{shown} |"
    )


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--epochs", type=int, default=32)
    asked.add_argument("--rounds", type=int, default=3)
    given = asked.parse_args()
    torch.set_num_threads(1)
    data = of_a_second(Digits().load(), trial_config(network=NETWORK, epochs=given.epochs))
    print("| MLflow | s per epoch | trial's process | tracker's process |\n|---|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spec = study(folder, study="file")
        print(measure("SQLite", spec, data, given.epochs, given.rounds), flush=True)
        # It has its tables now, which a server would take long to make.
        shutil.copytree(folder, folder / "server")
        server = MlflowServer(folder / "server")
        server.start()
        try:
            late = LateServer(int(server.url.rpartition(":")[2]))
            for what, url in (("server", server.url), ("server, 50 ms late", late.url)):
                spec = study(
                    folder / "server",
                    study=what.replace(", ", "-").replace(" ", "-"),
                    storage={"tracking": url},
                )
                print(measure(what, spec, data, given.epochs, given.rounds), flush=True)
        finally:
            server.stop()


if __name__ == "__main__":
    main()
