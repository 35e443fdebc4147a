"""What `check` says of each store, on real ones."""

import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, tzinfo
from pathlib import Path

import optuna
import pytest
import sqlalchemy
from mlflow import MlflowClient
from mlflow.store.artifact.mlflow_artifacts_repo import MlflowArtifactsRepository

from tests.integration.elsewhere import (
    dying_owner,
    finish,
    open_ledger,
    search_all,
    search_here_and_elsewhere,
)
from tests.servers import Postgres, connect
from tests.stores import MLFLOW_WARNINGS
from tests.trials import study
from tune_vae import api
from tune_vae.errors import StorageError
from tune_vae.service import databases, stores
from tune_vae.service.ledger.looking import read_rows
from tune_vae.service.ledger.open_study import GRACE_SECONDS
from tune_vae.service.stores import file_system, try_stores
from tune_vae.spec.study import Storage, StudySpec

pytestmark = MLFLOW_WARNINGS


def found(**places: str) -> dict[str, stores.StoreReport]:
    return {report.name: report for report in try_stores(Storage(**places))}


def files_below(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*"))


# SQLite and folders


def test_stores_of_a_study_that_has_not_begun_can_be_made_and_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    reports = try_stores(Storage())
    assert [report.name for report in reports] == ["ledger", "MLflow", "checkpoints"]
    for report in reports:
        assert report.works
        assert not report.shared
        assert "not there yet, can be made" in report.words
        assert "no other machine reaches" in report.words
    assert list(tmp_path.iterdir()) == []


def test_stores_of_a_running_study_are_tried_and_left_as_they_were(folder: Path) -> None:
    spec = study(folder)
    open_ledger(spec)
    (folder / "checkpoints").mkdir()
    before = files_below(folder)
    reports = {report.name: report for report in try_stores(spec.storage)}
    assert reports["ledger"].works
    assert reports["ledger"].words.startswith("written, read and cleaned up")
    assert reports["checkpoints"].words.startswith("written, listed, read and removed")
    assert files_below(folder) == before
    with connect(spec.storage.ledger) as connection:
        assert not [t for t in sqlalchemy.inspect(connection).get_table_names() if "check" in t]


def test_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "studies.db").write_text("not a database, whatever its name says\n" * 50)
    report = found(ledger=f"sqlite:///{tmp_path}/studies.db")["ledger"]
    assert not report.works
    assert "file is not a database" in report.words


def test_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("a file where the folder should be")
    report = found(checkpoints=str(tmp_path / "checkpoints" / "here"))["checkpoints"]
    # The nearest folder is the one above; the file in between shows when it is made.
    assert not report.works
    assert "is no folder" in report.words


NETWORK = """\
proc /proc proc rw 0 0
/dev/sda1 / ext4 rw 0 0
server:/home /home nfs4 rw 0 0
/dev/sdb1 /home/me/disk xfs rw 0 0
//server/share /mnt/two\\040words cifs rw 0 0
tmpfs /mnt/over tmpfs rw 0 0
server:/x /mnt/over nfs rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib", "ext4"),
        ("/home/me/studies", "nfs4"),
        ("/home/me/disk/a", "xfs"),
        ("/homer", "ext4"),
        ("/mnt/two words/a", "cifs"),
        ("/mnt/over", "nfs"),
    ],
)
def test_kind_of_drive_is_that_of_the_nearest_mount(tmp_path: Path, path: str, kind: str) -> None:
    (tmp_path / "mounts").write_text(NETWORK)
    assert file_system(Path(path), tmp_path / "mounts") == kind


@pytest.mark.skipif(shutil.which("findmnt") is None, reason="needs findmnt to compare with")
@pytest.mark.parametrize("path", ["/", "/tmp", "/dev/shm", "/proc/self"])
def test_kind_of_drive_is_what_findmnt_says(path: str) -> None:
    said = subprocess.run(
        ["findmnt", "-n", "-o", "FSTYPE", "-T", path], capture_output=True, text=True, check=True
    )
    assert file_system(Path(path).resolve()) == said.stdout.split()[-1]


def test_sqlite_on_a_network_drive_is_called_dangerous(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = study(folder)
    monkeypatch.setattr(stores, "file_system", lambda path: "nfs4")
    reports = {report.name: report for report in try_stores(spec.storage)}
    assert "dangerous: SQLite on a network drive (nfs4)" in reports["ledger"].words
    assert not reports["ledger"].shared
    assert reports["checkpoints"].shared
    assert "a network drive (nfs4): whoever mounts it reaches it" in reports["checkpoints"].words


# Servers


def test_bucket_is_shared(bucket: str) -> None:
    report = found(checkpoints=f"{bucket}/x")["checkpoints"]
    assert (report.works, report.shared) == (True, True)
    assert "clocks agree" in report.words


def test_bucket_that_is_not_there_is_told(bucket: str) -> None:
    report = found(checkpoints="s3://none/x")["checkpoints"]
    assert not report.works
    assert "bucket does not exist" in report.words


def test_memory_of_a_process_is_no_store() -> None:
    report = found(checkpoints="memory://x")["checkpoints"]
    assert not report.works
    assert "memory of one process" in report.words


def test_postgresql_is_tried_with_its_clock_and_without_showing_its_password(
    postgres: Postgres,
) -> None:
    url = postgres.create("tried")
    report = found(ledger=url)["ledger"]
    assert report.works
    assert report.place == f"postgresql+psycopg://me:***@127.0.0.1:{postgres.port}/tried"
    assert "written, read and cleaned up; clocks agree" in report.words
    # Only by this machine's own name for itself.
    assert not report.shared
    with connect(url) as connection:
        assert sqlalchemy.inspect(connection).get_table_names() == []


def test_postgresql_is_shared_under_a_name_that_others_know(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres.create("named")
    others = databases.connect_args
    monkeypatch.setattr(
        databases,
        "connect_args",
        lambda url: {"hostaddr": "127.0.0.1"} if "example.org" in url else others(url),
    )
    report = found(ledger=url.replace("127.0.0.1", "db.example.org"))["ledger"]
    assert (report.works, report.shared) == (True, True), report.words


def test_clock_of_a_database_is_compared(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres.create("clocks")
    here = time.time
    assert abs(databases.try_out(url, "storage.ledger") - here()) < 2
    monkeypatch.setattr(stores.time, "time", lambda: here() - 37)
    words = found(ledger=url)["ledger"].words
    assert "its clock is 37 s ahead" in words or "its clock is 36 s ahead" in words
    monkeypatch.setattr(stores.time, "time", lambda: here() + 90)
    assert "s behind" in found(ledger=url)["ledger"].words


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda url: url.replace("hunter2%26co", "hunter3%21"), "password authentication failed"),
        (lambda url: url.replace("/postgres", "/nowhere"), 'database "nowhere" does not exist'),
        (lambda url: url.replace("+psycopg:", "+psycopg9:"), "install the driver"),
        (lambda url: "postgres:/me:hunter2%26co@127.0.0.1", "`storage.ledger` is no database URL"),
    ],
)
def test_database_that_refuses_is_told_without_its_password(
    postgres: Postgres, change: Callable[[str], str], says: str
) -> None:
    url = change(postgres.url("postgres"))
    report = found(ledger=url)["ledger"]
    assert not report.works
    assert says in report.words
    spec = study(storage={"ledger": "sqlite:///none.db"})
    spec = _with_ledger(spec, url)
    for open_it in (read_rows, open_ledger):
        with pytest.raises(StorageError) as failure:
            open_it(spec)
        chain = f"{failure.value!s} {failure.value!r} {failure.value.__cause__!r} {spec!r}"
        assert "hunter" not in chain + report.words + report.place


def _with_ledger(spec: StudySpec, url: str) -> StudySpec:
    return replace(spec, storage=spec.storage.model_copy(update={"ledger": url}))


def test_server_that_accepts_no_connection_is_told_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("psycopg", reason="needs tune-vae[postgresql]")
    monkeypatch.setattr(databases, "CONNECT_SECONDS", 2)
    with socket.socket() as silent:
        # It listens and never says a word.
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port, begin = silent.getsockname()[1], time.monotonic()
        report = found(ledger=f"postgresql+psycopg://me@127.0.0.1:{port}/x")["ledger"]
    assert not report.works
    assert "timeout" in report.words
    assert time.monotonic() - begin < 30


@pytest.mark.slow
def test_mlflow_server_is_tried_with_its_artifacts(mlflow_server: str, tmp_path: Path) -> None:
    report = found(tracking=mlflow_server)["MLflow"]
    assert report.works, report.words
    assert "an artifact written, listed, read and removed; clocks agree" in report.words
    assert "other machines do not reach it under this name" in report.words
    assert MlflowArtifactsRepository("mlflow-artifacts:/", mlflow_server).list_artifacts() == []
    # One that leaves artifacts to whoever writes them.
    client = MlflowClient(mlflow_server)
    client.create_experiment("own", artifact_location=str(tmp_path))
    report = found(tracking=mlflow_server)["MLflow"]
    assert f"each machine writes to {tmp_path}, which is another folder on each" in report.words
    port = mlflow_server.rpartition(":")[2]
    broken = found(tracking=f"http://me:hunter2@127.0.0.1:{int(port) + 1}")["MLflow"]
    assert not broken.works
    assert "hunter2" not in broken.words + broken.place


def test_mlflow_server_that_is_not_there_is_told_without_its_password() -> None:
    report = found(tracking="http://me:hunter2@127.0.0.1:9")["MLflow"]
    assert not report.works
    assert "does not answer" in report.words
    assert "hunter2" not in report.words + report.place


# The ledger on PostgreSQL


@pytest.fixture(scope="module")
def pg_ledger(postgres: Postgres) -> str:
    return postgres.create("ledger")


def on(url: str, name: str, **changes: object) -> StudySpec:
    return _with_ledger(study(study=name, **changes), url)


def test_two_processes_share_a_study_on_postgresql(pg_ledger: str) -> None:
    here, there = search_here_and_elsewhere(on(pg_ledger, "shared", budget={"trials": 10}))
    assert sorted(here + there) == list(range(10))
    assert here
    assert there


def test_trial_of_a_killed_process_goes_on_elsewhere_under_a_higher_number(
    pg_ledger: str,
) -> None:
    spec = on(pg_ledger, "killed", budget={"trials": 1})
    with dying_owner(spec, epochs=2) as config:
        pass
    mine = open_ledger(spec)
    pack = mine.ask_pack(1)
    assert pack == [config]
    assert mine.attempts([0, 5]) == {0: 1}
    finish(mine, config, begun=2)
    assert mine.attempts([0]) == {}
    assert mine.ask_pack(1) is None


def test_beats_are_compared_in_one_time_zone(pg_ledger: str) -> None:
    """The server counts in Nepal's time; a beat must not look hours old, nor hours young."""
    spec = on(pg_ledger, "zones", budget={"trials": 2})
    first = open_ledger(spec)
    pack = first.ask_pack(1)
    assert pack
    query = (
        "SELECT extract(epoch FROM (now() AT TIME ZONE 'UTC') - max(h.heartbeat)) FROM "
        "trial_heartbeats h JOIN trials t ON t.trial_id = h.trial_id JOIN studies s ON "
        "s.study_id = t.study_id WHERE s.study_name = 'zones'"
    )
    with connect(pg_ledger) as connection:
        age = float(connection.exec_driver_sql(query).scalar_one())
    assert abs(age) < GRACE_SECONDS / 2


@pytest.mark.parametrize("ahead", [-600, 600])
def test_machine_whose_clock_is_minutes_off_takes_no_trial_and_loses_none(
    pg_ledger: str, monkeypatch: pytest.MonkeyPatch, ahead: int
) -> None:
    """Beats are written and read by the clock of the database alone."""
    spec = on(pg_ledger, f"clock{ahead}".replace("-", "behind"), budget={"trials": 2})
    right = open_ledger(spec)
    pack = right.ask_pack(1)
    assert pack
    (row,) = right._opened.study.trials
    right._opened.storage.set_trial_user_attr(row._trial_id, "owner", "elsewhere 1 1")
    with monkeypatch.context() as patch:
        patch.setattr(optuna.storages._rdb.storage, "datetime", clock(ahead))
        now = time.time
        patch.setattr(time, "time", lambda: now() + ahead)
        wrong = open_ledger(spec)
        other = wrong.ask_pack(1)
        assert other
        assert other != pack
        wrong._opened.storage.set_trial_user_attr(row._trial_id + 1, "owner", "elsewhere 1 1")
        wrong.beat()
    right._recovery.recover()
    assert right.ask_pack(1) == wrong.ask_pack(1) == []
    finish(wrong, other[0])
    finish(right, pack[0])
    assert [row.attempts for row in read_rows(spec) or []] == [1, 1]


def clock(ahead: int) -> type[datetime]:
    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return datetime.now(tz) + timedelta(seconds=ahead)

    return Clock


def test_study_is_shown_from_postgresql_and_is_none_before_it_began(pg_ledger: str) -> None:
    spec = on(pg_ledger, "shown", budget={"trials": 2})
    assert read_rows(spec) is None
    assert search_all(spec) == [0, 1]
    assert len(api.results(spec).ended) == 2


def test_new_database_is_only_looked_at_before_a_study_begins(postgres: Postgres) -> None:
    url = postgres.create("untouched")
    assert read_rows(on(url, "none")) is None
    with connect(url) as connection:
        assert sqlalchemy.inspect(connection).get_table_names() == []
