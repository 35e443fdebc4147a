"""How a tracking store is reached: MLflow's client, and what the store answers when asked."""

import contextlib
import logging
import os
import sqlite3
import tempfile
import uuid
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tune_vae.errors import StorageError, masked
from tune_vae.spec.study import Storage, is_url
from tune_vae.whole_files import write_whole

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["QUIET", "absolute", "client_of", "is_server", "make_tables", "read_run", "try_server"]

SERVER_SECONDS = 10
"""How long a server may take to say that it is there."""
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
# MLflow's own patience is four minutes for a request, in which it says nothing; ours is without
# end, and says what it waits for.
_IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "60"}


def client_of(storage: Storage) -> "MlflowClient":
    """MLflow's client, made to keep silent and to give up soon."""
    os.environ.update(QUIET)
    for name, value in _IMPATIENT.items():
        os.environ.setdefault(name, value)
    logging.getLogger("alembic").setLevel(logging.ERROR)
    from mlflow import MlflowClient

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    make_tables(storage.tracking)
    return MlflowClient(storage.tracking)


def make_tables(tracking: str, *, artifacts: str = "./mlruns") -> None:
    """Make an SQLite store that is not there, with all its tables or not at all.

    MLflow makes them in dozens of steps, and refuses for ever what a kill left of them. Whoever
    reads in the store shall not keep the search from writing, nor the other way round.

    Arguments:
        tracking: Address of a store; of another kind it is left alone.
        artifacts: Where those of MLflow's own first experiment go.

    Raises:
        OSError: Its folder cannot be made.
    """
    file = Path(tracking.removeprefix("sqlite:///"))
    if not tracking.startswith("sqlite:///") or file.exists():
        return
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "mlflow.db"
        SqlAlchemyStore(f"sqlite:///{made}", artifacts)
        with contextlib.closing(sqlite3.connect(made)) as database:
            database.execute("PRAGMA journal_mode=WAL")
        # Where a file cannot have two names MLflow makes it itself.
        with contextlib.suppress(OSError):
            write_whole(file, made.read_bytes(), keep=True)


def is_server(storage: Storage) -> bool:
    """Whether the tracking store is an MLflow server, not a database that MLflow opens."""
    return storage.tracking.startswith(("http://", "https://"))


def absolute(place: str) -> str:
    """A folder by its whole path; a URL as it is."""
    return place if is_url(place) else str(Path(place).resolve())


def try_server(storage: Storage) -> tuple[float, str]:
    """Ask an MLflow server for its time and its artifacts; leaves nothing there.

    If it takes artifacts itself, a small one is written, listed, read and removed.

    Returns:
        Its time in seconds since 1970, and where the artifacts of new experiments go:
        `mlflow-artifacts:/…` if the server takes them, the place otherwise.

    Raises:
        StorageError: It does not answer, or not as it should.
    """
    client = client_of(storage)
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    address = get_default_host_creds(storage.tracking)
    try:
        answer = http_request(address, "/health", "GET", max_retries=0, timeout=SERVER_SECONDS)
        clock = parsedate_to_datetime(answer.headers["Date"]).timestamp()
        newest = client.search_experiments(max_results=2, order_by=["creation_time DESC"])
        # `0` is the one that MLflow makes itself, maybe when the database had no server yet.
        roots = [str(one.artifact_location) for one in newest if one.experiment_id != "0"]
        root = roots[0] if roots else "mlflow-artifacts:/"
        if root.startswith("mlflow-artifacts:"):
            _try_artifacts(storage.tracking)
    except Exception as error:  # noqa: BLE001
        # Beside its own errors, MLflow lets those of its libraries through.
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise StorageError(
            f"MLflow at {storage.tracking} does not answer as it should: {reason}. Check "
            "`storage.tracking`, and that the server runs and allows this host "
            "(`mlflow server --allowed-hosts`)."
        ) from None
    return clock, root


def _try_artifacts(server: str) -> None:
    from mlflow.store.artifact.mlflow_artifacts_repo import MlflowArtifactsRepository

    word = uuid.uuid4().hex
    place = MlflowArtifactsRepository(f"mlflow-artifacts:/tune-vae-check-{word}", server)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "word.txt"
        file.write_text(word)
        place.log_artifact(str(file))
        try:
            listed = [one.path for one in place.list_artifacts()]
            read = Path(place.download_artifacts("word.txt", folder)).read_text()
        finally:
            place.delete_artifacts()
    if listed != ["word.txt"] or read != word:
        raise OSError("it does not return the artifact that was written to it")


def read_run(
    run: str, tracking: str = ""
) -> tuple[dict[str, list[tuple[float, float]]], dict[str, str], str]:
    """Curves of any run, by metric, with its parameters, and its verdict if it is one of ours.

    Arguments:
        run: Its id.
        tracking: Address of the tracking store; by default that of this folder's studies.

    Raises:
        StorageError: MLflow does not answer, or has no such run.
    """
    from mlflow.exceptions import MlflowException

    storage = Storage(tracking=tracking) if tracking else Storage().overridden(os.environ)
    place = masked(storage.tracking)
    file = storage.tracking.removeprefix("sqlite:///")
    # MLflow would make an empty one.
    if not is_url(file) and not Path(file).exists():
        raise StorageError(f"there is no MLflow store at {place}; name it with --tracking")
    try:
        client = client_of(storage)
        found = client.get_run(run)
        curves = {
            name: [
                (float(point.step), point.value) for point in client.get_metric_history(run, name)
            ]
            for name in found.data.metrics
        }
    except (MlflowException, OSError) as error:
        raise StorageError(f"MLflow at {place}: {str(error).splitlines()[0]}") from error
    return curves, dict(found.data.params), str(found.data.tags.get("verdict", ""))
