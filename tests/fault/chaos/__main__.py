"""A study under kills, restarts of its database and outages of MLflow, and what became of it.

python -m tests.fault.chaos --seed 0                       # some twenty minutes on two cores
python -m tests.fault.chaos --trials 8 --kills 4 --restarts 1 --outages 1
"""

import argparse
import contextlib
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy
import yaml

from tests.fault.chaos import diary
from tests.fault.chaos.counts import Counts, count
from tests.fault.chaos.machines import KINDS, Machine
from tests.searching import may_be_another_host, wait_until
from tests.servers import MlflowServer, Postgres, connect, running_bucket, running_postgres
from tune_vae.service.cluster import UNSENT

__all__ = ["Plan", "run"]

WEIGHTS = {"worker": 12, "driver": 8, "node": 6, "desk": 4}
"""How often each is killed, against the others."""
BATCH = 16
"""Small, so that a good part of the time is spent in epochs, where a kill costs something."""
BREAKS = {"restart": (1.0, 8.0), "outage": (5.0, 25.0)}
"""Seconds for which the database or MLflow is away; MLflow then takes twenty more to start."""
LAST_COMMANDS = 3
"""How often the same command is run at the end, if it says that MLflow did not take everything."""


@dataclass(frozen=True)
class Plan:
    """What a study is to go through.

    Arguments:
        seed: Of all that is drawn.
        trials, epochs, pack: Of the study.
        kills, restarts, outages: How many of them.
        minutes: After which it is given up.
    """

    seed: int = 0
    trials: int = 60
    epochs: int = 12
    pack: int = 1
    kills: int = 30
    restarts: int = 5
    outages: int = 5
    minutes: float = 90.0

    def events(self, moments: random.Random) -> list[tuple[int, str]]:
        """What happens after how many epochs of the study, in their order."""
        kinds = moments.choices(list(WEIGHTS), list(WEIGHTS.values()), k=self.kills)
        kinds += ["restart"] * self.restarts + ["outage"] * self.outages
        most = self.trials * self.epochs
        return sorted((round(moments.uniform(0.0, 0.95) * most), kind) for kind in kinds)

    def study(self, file: Path) -> str:
        return yaml.safe_dump(
            {
                "study": "chaos",
                "data": "digits",
                "network": {"diary:Noted": {"file": str(file)}},
                "latent_dim": 4,
                "search": {
                    "beta_norm": {"log_uniform": [0.01, 0.1]},
                    "likelihood": "gaussian",
                    "sigma": "optimal",
                    "lr": {"log_uniform": [0.002, 0.01]},
                },
                "pruner": "NopPruner",
                "train": {"epochs": self.epochs, "batch_size": BATCH, "pack": self.pack},
                # A trial that dies thrice within an epoch is bad luck here.
                "budget": {"trials": self.trials, "concurrency": 2, "retries": 8},
            }
        )


class Chaos:
    """The study, its stores and its machines."""

    def __init__(
        self, plan: Plan, folder: Path, postgres: Postgres, bucket: str, mlflow: MlflowServer
    ) -> None:
        self._plan, self._folder = plan, folder
        self._postgres, self._mlflow = postgres, mlflow
        self._diary = folder / "diary.txt"
        self._ledger = postgres.create("chaos")
        self._moments = random.Random(plan.seed)
        self._away: list[threading.Thread] = []
        aws = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
        self._settings = aws | {
            "PYTHONPATH": str(Path(__file__).parents[3]),
            "OMP_NUM_THREADS": "1",
            "TUNE_VAE_LEDGER": self._ledger,
            "TUNE_VAE_TRACKING": mlflow.url,
            "TUNE_VAE_CHECKPOINTS": f"{bucket}/chaos",
        }
        self.machines = [self._machine(name) for name in ("a", "b")]
        self.done: Counter[str] = Counter()
        self.flawless = False

    def _machine(self, name: str) -> Machine:
        study, seed = self._plan.study(self._diary), self._moments.getrandbits(32)
        return Machine(
            self._folder,
            name,
            study,
            self._settings,
            random.Random(seed),
            host=may_be_another_host(),
        )

    def run(self) -> Counts:
        """Until all has happened and every machine says that the study is at its end."""
        begin = time.monotonic()
        events = self._plan.events(self._moments)
        last_words = ""
        while events or not all(machine.done for machine in self.machines):
            if time.monotonic() - begin > self._plan.minutes * 60:
                print(f"given up after {self._plan.minutes:g} minutes", flush=True)
                break
            for machine in self.machines:
                machine.look()
            if all(machine.done for machine in self.machines):
                break
            epochs = self._epochs()
            if events and epochs is not None and epochs >= events[0][0]:
                if self._happen(events[0][1]):
                    print(f"{time.monotonic() - begin:5.0f} s  {events[0][1]}", flush=True)
                    self.done[events.pop(0)[1]] += 1
            words = f"{epochs} epochs, exit codes {[one.codes for one in self.machines]}"
            if epochs is not None and words != last_words and not epochs % 50:
                print(f"{time.monotonic() - begin:5.0f} s  {words}", flush=True)
                last_words = words
            time.sleep(0.3)
        for thread in self._away:
            thread.join()
        return self._count()

    def _count(self) -> Counts:
        """After one more command, which a user runs to see that all is done; again if told so."""
        last = self._machine("z")
        before = len(diary.read(str(self._diary)))
        for _ in range(LAST_COMMANDS):
            ended = last.place.run("search", "study.yaml")
            entries = diary.read(str(self._diary))
            print(f"the last command ended with {ended.code}: {len(entries) - before} steps more")
            if UNSENT not in ended.output:
                break
        spec = last.place.spec
        steps = len(spec.dataset().load().train) // BATCH
        counts = count(last.place, entries, steps)
        if ended.code or not counts.flawless:
            print(ended.output[-2000:])
        return counts

    def _epochs(self) -> int | None:
        """Epochs that the ledger knows; None while it does not answer."""
        query = (
            "SELECT coalesce(sum(done), 0) FROM (SELECT max(CAST(e.value_json AS integer)) AS "
            "done FROM trial_user_attributes e JOIN trial_user_attributes c ON c.trial_id = "
            "e.trial_id AND c.key = 'config' WHERE e.key = 'epoch' GROUP BY c.value_json) AS t"
        )
        try:
            with contextlib.closing(connect(self._ledger)) as connection:
                return int(connection.exec_driver_sql(query).scalar_one())
        except sqlalchemy.exc.SQLAlchemyError as error:
            return 0 if "does not exist" in str(error) else None

    def _happen(self, kind: str) -> bool:
        if kind in KINDS:
            machines = list(self.machines)
            self._moments.shuffle(machines)
            return any(machine.kill(kind) for machine in machines)
        if any(thread.is_alive() and thread.name == kind for thread in self._away):
            return False
        seconds = self._moments.uniform(*BREAKS[kind])
        away = self._restart if kind == "restart" else self._outage
        thread = threading.Thread(target=away, args=(seconds,), name=kind)
        thread.start()
        self._away.append(thread)
        return True

    def _restart(self, seconds: float) -> None:
        self._postgres.stop()
        time.sleep(seconds)
        self._postgres.start()

    def _outage(self, seconds: float) -> None:
        self._mlflow.stop(signal.SIGKILL)
        time.sleep(seconds)
        self._mlflow.start()

    def close(self) -> None:
        for machine in self.machines:
            machine.end()
        for thread in self._away:
            thread.join()


@contextlib.contextmanager
def _stage(plan: Plan) -> Iterator[Chaos]:
    folder = Path(tempfile.mkdtemp(prefix="chaos-", dir="/var/tmp"))
    (folder / "mlflow").mkdir()
    mlflow = MlflowServer(folder / "mlflow")
    with running_postgres() as postgres, running_bucket() as bucket:
        try:
            mlflow.start()
            chaos = Chaos(plan, folder, postgres, bucket, mlflow)
            try:
                yield chaos
            finally:
                chaos.close()
        finally:
            mlflow.stop()
    # Kept if anything was raised or amiss, to be looked at.
    if chaos.flawless:
        shutil.rmtree(folder)
    else:
        print(f"its files: {folder}")


def run(plan: Plan) -> tuple[Counts, Counter[str]]:
    """Let a study go through all of it; returns its counts, and how much of it happened."""
    with _stage(plan) as chaos:
        counts = chaos.run()
        chaos.flawless = counts.flawless
        wait_until(
            lambda: not any(machine.place.processes() for machine in chaos.machines),
            seconds=60,
            what="all processes end",
        )
        return counts, chaos.done


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fault.chaos", description=__doc__)
    for name, value in vars(Plan()).items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    plan = Plan(**vars(parser.parse_args(arguments)))
    # So that nothing is left running by who ends it in this way.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    counts, happened = run(plan)
    print(", ".join(f"{happened[kind]} × {kind}" for kind in (*WEIGHTS, *BREAKS)))
    print(counts)
    whole = happened.total() == plan.kills + plan.restarts + plan.outages
    return 0 if counts.flawless and whole else 1


if __name__ == "__main__":
    sys.exit(main())
