"""The database of the ledger: transactions whose failures are sentences. No tables here, and no schema (`gpt_image_runs.database.open`).

Everything is synchronous and safe to share between threads. Callers on an event loop use a thread.
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

BEGIN = "ledger_begin"
"""The execution option that names how a transaction on SQLite begins."""

_SUPPORTED = "use sqlite:///path/to/ledger.db or postgresql://user:password@host:5432/database"
_POSTGRESQL = {"postgres", "postgresql", "postgresql+psycopg"}
_BUSY_TIMEOUT_SECONDS = 30  # far above any transaction of ours, far below an activity's timeout
_BUSY_PAUSE = timedelta(milliseconds=20)
_CONNECT_TIMEOUT_SECONDS = 10


def parse_url(url: str) -> URL:
    """The URL of a ledger, with the driver that we use.

    Raises:
        LedgerUnavailable: not a URL of SQLite (in a file) or PostgreSQL. The URL itself is not repeated in the
            message: where it cannot be parsed, nobody knows which part of it is the password.
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
        raise LedgerUnavailable(f"A ledger cannot live in {parsed.drivername}: {_SUPPORTED}.")
    if not parsed.database or parsed.database == ":memory:" or parsed.database.startswith("file:"):
        raise LedgerUnavailable("A ledger needs a file to last: use sqlite:///path/to/ledger.db.")
    return parsed


def describe_location(url: URL) -> str:
    """Where a ledger is, for messages: without the password, and without options, which may hold one too."""
    if url.drivername == "sqlite":
        return f"sqlite:///{url.database}"
    user = f"{url.username}@" if url.username else ""
    host = url.host or url.query.get("host", "localhost")
    port = f":{url.port}" if url.port else ""
    return f"postgresql://{user}{host}{port}/{url.database or ''}"


def make_engine(url: URL) -> Engine:
    """An engine that connects when it is first used. Errors never show parameters: they are customers' data."""
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
    """Makes the directory and the file of a ledger, with the write-ahead log that lets readers read beside a writer.

    The log is a lasting property of the file. Does nothing for PostgreSQL.

    Raises:
        LedgerUnavailable: the file cannot be made or written.
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
        raise LedgerUnavailable(f"The ledger at {describe_location(url)} cannot be made: {error}.") from error


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
        """A transaction that only reads."""
        with self._telling(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that writes: all of it or nothing, committed on leaving.

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
        """One transaction for many steps: each `writing` of the database that is given succeeds or fails alone within it.

        A step costs no commit of its own. All of them are committed on leaving. For one thread.

        Raises:
            LedgerUnavailable, LedgerRefused: as for `writing`; then none of the steps was written.
        """
        with self.writing() as connection:
            yield _JoinedDatabase(self, connection)

    def close(self) -> None:
        """Closes every connection. The database can be used again afterwards."""
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
    """The driver's own first line, without SQLAlchemy's SQL and links."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    lines = str(cause).strip().splitlines() or [type(error).__name__]
    line = lines[0].strip()
    return line if line.endswith(".") else f"{line}."


def insert_once(connection: Connection, table: Table, row: dict[str, Any], *, key: str | None = None) -> bool:
    """Inserts a row unless one of its unique keys is taken. Returns whether it was inserted.

    Waits for another transaction that is inserting the same key. Where it returns False, the other row can be read. With
    `key`, the name of a unique column, only that one may be taken: any other is an error.
    """
    return connection.execute(_spell(connection.dialect.name, table, key), row).first() is not None


@cache
def _spell(dialect: str, table: Table, key: str | None) -> ReturningInsert[Any]:
    """Kept, as a statement is costly to make and to recognise: with its 30 values in it, three times as much as to run it."""
    insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
    return insert(table).on_conflict_do_nothing(index_elements=key and [key]).returning(*table.primary_key)
