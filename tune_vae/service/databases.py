"""Databases by URL: opened the same way everywhere, tried out, and named without their passwords.

SQLAlchemy speaks to them; Optuna and MLflow, which keep their tables there, use it as well.
"""

import contextlib
import sqlite3
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

from tune_vae.errors import StorageError

__all__ = [
    "LOCK_SECONDS",
    "configure",
    "connect_args",
    "has_table",
    "opened",
    "reach",
    "settle",
    "sqlite_file",
    "try_out",
    "unreachable",
]

LOCK_SECONDS = 60
"""How long one request waits for another process to let go of an SQLite file."""
SETTLE_SECONDS = 2
"""The same at the end of a search, where nothing depends on it."""
CONNECT_SECONDS = 10
"""How long a server may take to accept a connection."""

_ERRORS = (SQLAlchemyError, ImportError, OSError, ValueError)
_TIMEOUT_OPTION = {"mysqlconnector": "connection_timeout"} | dict.fromkeys(
    ("psycopg", "psycopg2", "pymysql", "mysqldb", "mariadbconnector"), "connect_timeout"
)
"""What drivers call the seconds that they wait for a server; without it they wait for minutes."""
_CLOCK = {
    "postgresql": "SELECT extract(epoch FROM clock_timestamp())",
    "mysql": "SELECT unix_timestamp(sysdate(6))",
    "mariadb": "SELECT unix_timestamp(sysdate(6))",
}
_IN_UTC = {
    "postgresql": "SET TIME ZONE 'UTC'",
    "mysql": "SET time_zone = '+00:00'",
    "mariadb": "SET time_zone = '+00:00'",
}


def sqlite_file(url: str) -> Path | None:
    """The file of an SQLite database; None for another database, or one in memory."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or not parsed.database:
        return None
    return Path(parsed.database)


def connect_args(url: str) -> dict[str, Any]:
    """What every connection to a database is opened with."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return {"timeout": LOCK_SECONDS}
    option = _TIMEOUT_OPTION.get(_driver(parsed))
    return {option: CONNECT_SECONDS} if option and option not in parsed.query else {}


def _driver(url: URL) -> str:
    try:
        return url.get_driver_name()
    except SQLAlchemyError:
        return ""


def configure(engine: sqlalchemy.Engine) -> None:
    """Make an engine's connections keep what Optuna takes for granted."""
    if engine.dialect.name == "sqlite":
        _make_transactions_real(engine)
    elif engine.dialect.name in _IN_UTC:
        _count_in_utc(engine)


def _count_in_utc(engine: sqlalchemy.Engine) -> None:
    """Let machines of different time zones compare beats, which Optuna stores without a zone."""

    @sqlalchemy.event.listens_for(engine, "connect")
    def _configure(connection: Any, _: object) -> None:
        try:
            with contextlib.closing(connection.cursor()) as cursor:
                cursor.execute(_IN_UTC[engine.dialect.name])
            connection.commit()
        except BaseException:
            # The server went away between two words; SQLAlchemy forgets it without closing it.
            connection.close()
            raise

    engine.dispose()


def _make_transactions_real(engine: sqlalchemy.Engine) -> None:
    """Let SQLite keep what Optuna takes for granted: that reading and writing are one act.

    Python's driver begins a transaction only when it writes, so two processes could both read
    that a trial waits and both take it.
    """

    @sqlalchemy.event.listens_for(engine, "connect")
    def _configure(connection: Any, _: object) -> None:
        connection.isolation_level = None
        # Readers do not block the writer, and a commit needs no flush of the disk: a kill of
        # the process loses nothing, a power cut at most the newest commits, never the file.
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")

    @sqlalchemy.event.listens_for(engine, "begin")
    def _begin(connection: sqlalchemy.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    engine.dispose()


def reach(url: str, setting: str) -> None:
    """Connect once, so that a database which is not there is told at once.

    Arguments:
        url: Of the database; the folder of an SQLite file is made.
        setting: Where the user wrote the URL, such as `storage.ledger`.

    Raises:
        StorageError: It is not, or the URL is none.
    """
    try:
        file = sqlite_file(url)
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
        with _engine(url) as engine, engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA schema_version" if file else "SELECT 1")
    except _ERRORS as error:
        raise unreachable(url, setting, error) from None


def has_table(url: str, name: str) -> bool:
    """Whether a database is there and has a table; nothing is created."""
    file = sqlite_file(url)
    if file is not None and not file.exists():
        return False
    with opened(url) as engine:
        return sqlalchemy.inspect(engine).has_table(name)


@contextlib.contextmanager
def opened(url: str) -> Iterator[sqlalchemy.Engine]:
    """A database to read from, which is left as it is."""
    with _engine(url) as engine:
        if engine.dialect.name in _IN_UTC:
            _count_in_utc(engine)
        yield engine


def settle(url: str) -> None:
    """Take what an SQLite database keeps in its log into its one file, which may be copied alone.

    Nothing is lost without it. It is left to others while somebody reads there.
    """
    file = sqlite_file(url)
    if file is None or not file.exists():
        return
    with (
        contextlib.suppress(sqlite3.Error),
        contextlib.closing(sqlite3.connect(file, timeout=SETTLE_SECONDS)) as connection,
    ):
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


@contextlib.contextmanager
def _engine(url: str, **options: Any) -> Iterator[sqlalchemy.Engine]:
    """One whose connections are closed at the end, however it comes."""
    engine = sqlalchemy.create_engine(url, connect_args=connect_args(url), **options)
    try:
        yield engine
    finally:
        engine.dispose()


def try_out(url: str, setting: str) -> float:
    """Create a table, write to it, read from it and drop it again, all taken back at the end.

    Returns:
        The time of the database, in seconds since 1970.

    Raises:
        StorageError: One of it cannot be done.
    """
    table, word = f"tune_vae_check_{uuid.uuid4().hex}", "written"
    try:
        backend = make_url(url).get_backend_name()
        with (
            _engine(url, isolation_level="AUTOCOMMIT") as engine,
            contextlib.closing(engine.connect()) as connection,
        ):
            ask = connection.exec_driver_sql
            ask("BEGIN IMMEDIATE" if backend == "sqlite" else "BEGIN")
            try:
                ask(f"CREATE TABLE {table} (word VARCHAR(40))")
                ask(f"INSERT INTO {table} VALUES ('{word}')")
                read = ask(f"SELECT word FROM {table}").scalar()
                ask(f"DROP TABLE {table}")
            finally:
                ask("ROLLBACK")
            if read != word:
                raise OSError("it does not return what was written to it")
            clock = ask(_CLOCK[backend]).scalar_one() if backend in _CLOCK else time.time()
    except _ERRORS as error:
        raise unreachable(url, setting, error) from None
    return float(clock)


def unreachable(url: str, setting: str, error: Exception) -> StorageError:
    """What to tell a user of a database that cannot be opened."""
    what = setting.removeprefix("storage.")
    try:
        shown = make_url(url).render_as_string(hide_password=True)
    except (sqlalchemy.exc.ArgumentError, ValueError):
        # Not shown: what cannot be parsed may hold a password anywhere.
        return StorageError(
            f"cannot open the {what}: `{setting}` is no database URL. Write it as "
            "`sqlite:///folder/file.db` or `postgresql+psycopg://user@host/database`."
        )
    reason = str(getattr(error, "orig", None) or error.__cause__ or error).splitlines()[0]
    if isinstance(error, ImportError | sqlalchemy.exc.NoSuchModuleError):
        reason += (
            "; install the driver of this database (PostgreSQL: `pip install "
            "'tune-vae[postgresql]'` and begin the URL with `postgresql+psycopg://`)"
        )
    return StorageError(
        f"cannot open the {what} {shown}: {reason}. Check `{setting}`, and that the "
        "database runs and can be written."
    )
