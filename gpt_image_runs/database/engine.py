"""The engine and transactions of the ledger's database, with errors that are readable sentences.

Everything is synchronous and safe to share between threads. Call it from a thread in asynchronous code.
"""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, Table, create_engine, event, make_url
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.sql.dml import ReturningInsert

from gpt_image_runs.database.errors import LedgerRefused, LedgerUnavailable

# The execution option that names how a transaction on SQLite begins.
BEGIN = "ledger_begin"

_SUPPORTED = "use sqlite:///path/to/ledger.db or postgresql://user:password@host:5432/database"
_POSTGRESQL = {"postgres", "postgresql", "postgresql+psycopg"}
_BUSY_TIMEOUT_SECONDS = 30  # far above any transaction of ours, far below an activity's timeout
_BUSY_PAUSE = timedelta(milliseconds=20)
_CONNECT_TIMEOUT_SECONDS = 10


def parse_url(url: str) -> URL:
    """Parse the URL of a ledger and set the driver.

    Raises:
        LedgerUnavailable: it is not a URL of SQLite (in a file) or PostgreSQL. The message does not repeat the URL: where it
            cannot be parsed, any part of it may be the password.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise LedgerUnavailable(f"The ledger's URL cannot be read: {_SUPPORTED}.") from None
    if "@" in (parsed.host or ""):
        raise LedgerUnavailable(
            "The ledger's URL cannot be read: an @ in its password has to be written as %40."
        )
    if parsed.drivername in _POSTGRESQL:
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername != "sqlite":
        raise LedgerUnavailable(f"{parsed.drivername} is not supported for a ledger: {_SUPPORTED}.")
    if not parsed.database or parsed.database == ":memory:" or parsed.database.startswith("file:"):
        raise LedgerUnavailable("A ledger in memory would be lost. Use sqlite:///path/to/ledger.db.")
    return parsed


def describe_location(url: URL) -> str:
    """Format where a ledger is, for messages: without the password and the options, which may hold one too."""
    if url.drivername == "sqlite":
        return f"sqlite:///{url.database}"
    user = f"{url.username}@" if url.username else ""
    host = url.host or url.query.get("host", "localhost")
    port = f":{url.port}" if url.port else ""
    return f"postgresql://{user}{host}{port}/{url.database or ''}"


def make_engine(url: URL) -> Engine:
    """Build an engine that connects on first use. Its errors never show parameters: they are customers' data."""
    if url.drivername == "sqlite":
        return _make_sqlite_engine(url)
    return create_engine(
        url,
        hide_parameters=True,
        # One connection for each thread that typically runs money activities, and as many again in a burst.
        pool_size=10,
        max_overflow=10,
        # A restarted server or an idle connection cut by a firewall costs one round trip, not a failed activity.
        pool_pre_ping=True,
        connect_args={"connect_timeout": _CONNECT_TIMEOUT_SECONDS},
    )


def _make_sqlite_engine(url: URL) -> Engine:
    engine = create_engine(
        url,
        hide_parameters=True,
        # There is one writer at a time whatever we do; a few more connections let reports read beside it.
        pool_size=5,
        max_overflow=0,
        connect_args={"timeout": _BUSY_TIMEOUT_SECONDS},
    )
    event.listen(engine, "connect", _prepare_sqlite_connection)
    event.listen(engine, "begin", _begin_sqlite_transaction)
    return engine


def _prepare_sqlite_connection(connection: sqlite3.Connection, _record: object) -> None:
    # The driver's own transaction control starts transactions late and none at all for DDL: we write BEGIN ourselves.
    connection.isolation_level = None
    connection.execute("PRAGMA foreign_keys = ON")
    # With NORMAL, a power cut may take back the last commits: an attempt that was written down before it was sent would
    # be gone, and the payment hidden. FULL costs one fsync per transaction (about 0.2 ms on an SSD).
    connection.execute("PRAGMA synchronous = FULL")


def _begin_sqlite_transaction(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get(BEGIN, "BEGIN"))


def prepare_sqlite_file(url: URL) -> None:
    """Create the directory and the file of a SQLite ledger with a write-ahead log, so that readers do not block.

    The log is a permanent property of the file. Does nothing for PostgreSQL.

    Raises:
        LedgerUnavailable: the file cannot be created or written.
    """
    if url.drivername != "sqlite":
        return
    path = Path(url.database or "")
    try:
        if not path.parent.is_dir():
            path.parent.parent.mkdir(parents=True, exist_ok=True)
            path.parent.mkdir(mode=0o700, exist_ok=True)
        is_private = os.name == "posix" and not path.parent.stat().st_mode & 0o077
        # Where other users cannot enter the folder, the file is closed to them too; SQLite gives its log the same rights.
        path.touch(mode=0o600 if is_private else 0o666)
        with closing(sqlite3.connect(path, timeout=_BUSY_TIMEOUT_SECONDS)) as connection:
            _turn_on_write_ahead_log(connection)
    except (OSError, sqlite3.Error) as error:
        raise LedgerUnavailable(
            f"The ledger at {describe_location(url)} cannot be created: {error}."
        ) from error


def _turn_on_write_ahead_log(connection: sqlite3.Connection) -> None:
    give_up_at = time.monotonic() + _BUSY_TIMEOUT_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            # Where another process does the same, SQLite fails at once instead of waiting.
            is_busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not is_busy or time.monotonic() > give_up_at:
                raise
            time.sleep(_BUSY_PAUSE.total_seconds())
        else:
            return


class Database:
    """A ledger's database. `location` is its URL as people may see it; `dialect` is "sqlite" or "postgresql"."""

    def __init__(self, url: URL) -> None:
        self.url = url
        self.location = describe_location(url)
        self._engine = make_engine(url)
        self._writer = self._engine.execution_options(**{BEGIN: "BEGIN IMMEDIATE"})
        self.dialect = self._engine.dialect.name

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Open a transaction that only reads."""
        with self._telling(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Open a transaction that writes all or nothing and commits on leaving.

        On SQLite it takes the write lock at once: a transaction that starts by reading and wants to write later would
        fail if another process wrote in between.

        Raises:
            LedgerUnavailable: the database does not answer, is busy, or is full.
            LedgerRefused: a rule of the database was broken.
        """
        with self._telling(), self._writer.begin() as connection:
            yield connection

    @contextmanager
    def joining(self) -> Iterator["Database"]:
        """Open one transaction for many steps: each `writing` of the yielded database succeeds or fails alone.

        All steps are committed together on leaving. For one thread.

        Raises:
            LedgerUnavailable, LedgerRefused: as for `writing`; then none of the steps was written.
        """
        with self.writing() as connection:
            yield _JoinedDatabase(self, connection)

    def close(self) -> None:
        """Close every connection. The database can be used again afterwards."""
        self._engine.dispose()

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError as error:
            raise LedgerRefused(
                f"The ledger at {self.location} refused a change. {quote_driver(error)}"
            ) from error
        except PoolTimeoutError as error:
            raise LedgerUnavailable(
                f"The ledger at {self.location} is busy: no connection became free."
            ) from error
        except DBAPIError as error:
            raise LedgerUnavailable(
                f"The ledger at {self.location} cannot be used. {quote_driver(error)}"
            ) from error


class _JoinedDatabase(Database):
    """A database whose transactions are parts of one that is open."""

    def __init__(self, whole: Database, connection: Connection) -> None:
        self.url, self.location, self.dialect = whole.url, whole.location, whole.dialect
        self._connection = connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        with self._telling():
            yield self._connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        with self._telling(), self._connection.begin_nested():
            yield self._connection

    def close(self) -> None:
        """Do nothing: the transaction ends where it was begun."""


def quote_driver(error: SQLAlchemyError) -> str:
    """Return the first line of the driver's message, without SQLAlchemy's SQL and links."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    lines = str(cause).strip().splitlines() or [type(error).__name__]
    line = lines[0].strip()
    return line if line.endswith(".") else f"{line}."


def insert_once(connection: Connection, table: Table, row: dict[str, Any], *, key: str | None = None) -> bool:
    """Insert a row unless one of its unique keys is taken; return whether it was inserted.

    Wait for another transaction that is inserting the same key. Where it returns False, the other row can be read. With
    `key`, the name of a unique column, only that one may be taken: any other is an error.
    """
    return connection.execute(_spell(connection.dialect.name, table, key), row).first() is not None


@cache
def _spell(dialect: str, table: Table, key: str | None) -> ReturningInsert[Any]:
    """Build the insert statement of a table, cached: compiling it takes three times as long as running it."""
    insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
    return insert(table).on_conflict_do_nothing(index_elements=key and [key]).returning(*table.primary_key)
