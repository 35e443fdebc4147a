"""MLflow's own pages: its server as a process of its own, and as a part of another one."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from typing import Any

from tune_vae.errors import StorageError
from tune_vae.service.tracking.client import QUIET, absolute, make_tables
from tune_vae.spec.study import Storage

__all__ = ["serve", "web_application"]


def serve(
    storage: Storage, *, host: str, port: int, on_ready: Callable[[], None] = lambda: None
) -> None:
    """Show a local tracking store in a browser, until Ctrl-C.

    Arguments:
        storage: Where the store lies.
        host, port: Address to serve on.
        on_ready: Called once the page answers, which takes MLflow some twenty seconds.

    Raises:
        StorageError: The port is taken, or MLflow could not start.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise StorageError(
                f"cannot serve on {host}:{port}: {error.strerror}. Choose another `--port`."
            ) from error
    command = [
        *(sys.executable, "-m", "mlflow", "server"),
        *("--artifacts-destination", absolute(storage.artifacts)),
        *("--host", host, "--port", str(port), "--workers", "1"),
    ]
    # The job runner of its language-model pages costs half a gigabyte and is not used here.
    quiet = os.environ | QUIET | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    # Not among the arguments, which everybody on the machine can read.
    quiet["MLFLOW_BACKEND_STORE_URI"] = storage.tracking
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryFile("w+") as log:
        # Its own process group: MLflow leaves its children behind when it is ended alone.
        server = subprocess.Popen(
            command, env=quiet, stdout=log, stderr=log, start_new_session=True
        )
        try:
            while server.poll() is None and not _answers(host, port):
                time.sleep(0.2)
            if server.poll() is None:
                on_ready()
            if server.wait():
                log.seek(0)
                said = log.read().strip().splitlines() or ["it said nothing"]
                raise StorageError(f"MLflow ended with exit code {server.returncode}: {said[-1]}")
        except KeyboardInterrupt:
            pass
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGTERM)
            server.wait()


def web_application(tracking: str, artifacts: str, *, any_name: bool) -> Any:
    """MLflow's server as an ASGI application, which takes artifacts itself; one for a process.

    Arguments:
        tracking: Its database.
        artifacts: Folder or URL of what it is sent.
        any_name: Whether it may be asked under any name of this machine.
    """
    # What its own command does; MLflow offers no other way to put anything before its pages.
    os.environ.update(
        QUIET
        | {
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "_MLFLOW_SERVER_FILE_STORE": tracking,
            "_MLFLOW_SERVER_REGISTRY_STORE": tracking,
            "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
            "_MLFLOW_SERVER_ARTIFACT_DESTINATION": artifacts,
            "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
            "_MLFLOW_SGI_NAME": "uvicorn",
        }
        | ({"MLFLOW_SERVER_ALLOWED_HOSTS": "*"} if any_name else {})
    )
    warnings.filterwarnings("ignore")
    make_tables(tracking, artifacts="mlflow-artifacts:/")
    from mlflow.server.fastapi_app import app
    from mlflow.server.handlers import initialize_backend_stores

    initialize_backend_stores(tracking, tracking, "mlflow-artifacts:/")
    return app


def _answers(host: str, port: int) -> bool:
    # Whatever it says: its door is open long before anybody is at home.
    with (
        contextlib.suppress(OSError, http.client.HTTPException),
        contextlib.closing(http.client.HTTPConnection(host, port, timeout=5)) as connection,
    ):
        connection.request("GET", "/health")
        return connection.getresponse().status > 0
    return False
