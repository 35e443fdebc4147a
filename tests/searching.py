"""`tune-vae` as a user runs it: a process of its own, an empty folder, an empty home."""

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import optuna
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run
from optuna.trial import FrozenTrial

from tune_vae.service.ledger.looking import read_rows
from tune_vae.service.rows import TrialRow
from tune_vae.spec.study import Storage, StudySpec

COMMAND = Path(sys.executable).with_name("tune-vae")
PATIENCE_SECONDS = 240.0


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    output: str


@dataclass(frozen=True)
class Workplace:
    """A folder with a study in it.

    Arguments:
        folder: Where commands run.
        settings: Environment variables that they get.
        host: Name of the machine; by default that of this one.
    """

    folder: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    host: str = ""

    @property
    def file(self) -> Path:
        return self.folder / "study.yaml"

    @property
    def spec(self) -> StudySpec:
        """The study, with its storage seen from everywhere."""
        place = self.folder / "mlruns"
        storage = Storage(
            ledger=f"sqlite:///{place}/studies.db",
            tracking=f"sqlite:///{place}/mlflow.db",
            artifacts=str(place / "artifacts"),
            checkpoints=str(place / "checkpoints"),
        )
        return replace(StudySpec.load(self.file), storage=storage.overridden(self.settings))

    def write(self, text: str, **sections: Any) -> "Workplace":
        """Put down the study, some of its sections merged with others."""
        values = yaml.safe_load(text)
        for key, value in sections.items():
            values[key] = values.get(key, {}) | value if isinstance(value, dict) else value
        self.folder.mkdir(parents=True, exist_ok=True)
        self.file.write_text(yaml.safe_dump(values, sort_keys=False))
        return self

    def start(self, *arguments: str) -> "subprocess.Popen[bytes]":
        """Begin a command in a process group of its own; its output goes to `output.txt`."""
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        kept = {
            name: os.environ[name] for name in ("PATH", "LANG", "PYTHONPATH") if name in os.environ
        }
        with (self.folder / "output.txt").open("wb") as output:
            return subprocess.Popen(
                [*self._as_host, COMMAND, *arguments],
                cwd=self.folder,
                env=kept
                | {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")}
                | self.settings,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def _as_host(self) -> list[str]:
        if not self.host:
            return []
        return ["unshare", "--uts", "sh", "-c", f'hostname {self.host} && exec "$0" "$@"']

    def search(self) -> "subprocess.Popen[bytes]":
        return self.start("search", "study.yaml")

    def wait(self, process: "subprocess.Popen[bytes]") -> Ended:
        """Until a command ends; one that hangs is killed."""
        try:
            code = process.wait(PATIENCE_SECONDS)
        finally:
            kill(process)
        return Ended(code, self.output)

    @property
    def output(self) -> str:
        return (self.folder / "output.txt").read_text()

    def run(self, *arguments: str) -> Ended:
        return self.wait(self.start(*arguments))

    def rows(self) -> list[TrialRow]:
        """The trials of the study as its ledger knows them."""
        rows = read_rows(self.spec)
        assert rows is not None, self.output
        return rows

    def optuna_rows(self) -> list[FrozenTrial]:
        """Optuna's own rows, one for each attempt."""
        spec = self.spec
        storage = optuna.storages.RDBStorage(spec.storage.ledger)
        try:
            return optuna.load_study(study_name=spec.name, storage=storage).get_trials()
        finally:
            storage.remove_session()
            storage.engine.dispose()

    def epochs(self) -> dict[int, int]:
        """Epochs done by trial."""
        query = (
            "SELECT trial_id, key, value_json FROM trial_user_attributes "
            "WHERE key IN ('config', 'epoch')"
        )
        rows: dict[int, dict[str, Any]] = {}
        for row, key, value in self._query(query):
            rows.setdefault(row, {})[key] = json.loads(value)
        done: dict[int, int] = {}
        for attrs in rows.values():
            if "config" in attrs:
                trial = json.loads(attrs["config"])["trial"]
                done[trial] = max(done.get(trial, 0), attrs.get("epoch", 0))
        return done

    def count(self, condition: str) -> int:
        """Optuna rows of a condition in SQL."""
        found = self._query(f"SELECT count(*) FROM trials WHERE {condition}")
        return sum(count for (count,) in found)

    def _query(self, query: str) -> list[tuple[Any, ...]]:
        """Read the ledger without disturbing anyone; nothing before it is there."""
        file = self.folder / "mlruns" / "studies.db"
        try:
            with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
                return database.execute(query).fetchall()
        except sqlite3.OperationalError:
            return []

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(self.spec.storage.tracking)

    def runs(self, kind: str = "trial") -> list[Run]:
        """MLflow's runs of the study, in the order of their trials."""
        experiment = self.client.get_experiment_by_name(self.spec.name)
        assert experiment is not None
        found = self.client.search_runs(
            [experiment.experiment_id], f"tags.`tune_vae.kind` = '{kind}'"
        )
        return sorted(found, key=lambda run: int(run.data.tags.get("tune_vae.trial", "-1")))

    def processes(self) -> dict[int, str]:
        """What runs in the folder: command lines by process number."""
        return dict(_processes_in(self.folder))

    def assert_nothing_is_left_running(self, seconds: float = 20.0) -> None:
        """Neither rows nor processes, the latter after a while."""
        assert self.count("state = 'RUNNING'") == 0
        wait_until(lambda: not self.processes(), seconds=seconds, what="all processes end")

    def assert_shown_exactly_once(self) -> None:
        """Every epoch of every trial is in MLflow, once, and no number that is not finite."""
        rows, runs = self.rows(), [*self.runs(), *self.runs("repeat")]
        assert [int(run.data.tags["tune_vae.trial"]) for run in runs] == [
            row.trial for row in rows
        ]
        for row, run in zip(rows, runs, strict=True):
            history = self.client.get_metric_history(run.info.run_id, "sched/kl_weight")
            steps = sorted(metric.step for metric in history)
            assert steps == list(range(1, row.epoch + 1)), (row.trial, steps)
            assert run.info.status != "RUNNING", row.trial
            assert run.data.tags["why"] == row.kind
        with contextlib.closing(sqlite3.connect(self.folder / "mlruns" / "mlflow.db")) as database:
            query = "SELECT count(*) FROM metrics WHERE is_nan OR abs(value) > 1e300"
            assert database.execute(query).fetchone() == (0,)


def kill(process: "subprocess.Popen[bytes]") -> None:
    """`kill -9` of a command and all that is in its group."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)


@contextlib.contextmanager
def killed_at_a_failure(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    """What fails while a command runs shall not leave it behind."""
    try:
        yield
    except BaseException:
        kill(process)
        raise


def wait_until(
    condition: Callable[[], object],
    *,
    what: str,
    seconds: float = PATIENCE_SECONDS,
    process: "subprocess.Popen[bytes] | None" = None,
) -> None:
    """Until a condition holds; fails after a time, or when the process ends before."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"did not see in time: {what}"
        assert process is None or process.poll() is None, f"ended before: {what}"
        time.sleep(0.05)


def may_be_another_host() -> bool:
    """Whether a command here can have the name of another machine."""
    try:
        done = subprocess.run(["unshare", "--uts", "hostname", "other"], capture_output=True)
    except OSError:
        return False
    return done.returncode == 0


def copy_database(file: Path, workplace: Workplace) -> None:
    """Spare a search the seconds in which MLflow creates its tables."""
    (workplace.folder / "mlruns").mkdir(parents=True, exist_ok=True)
    shutil.copy(file, workplace.folder / "mlruns" / "mlflow.db")


def _processes_in(folder: Path) -> Iterator[tuple[int, str]]:
    # Found by their working folder, which Ray's workers inherit, unlike the process group. A
    # machine without /proc has none to show.
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            if (entry / "cwd").readlink() == folder and state not in "ZX":
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
                yield int(entry.name), line.decode(errors="replace").strip()
        except OSError:
            continue
