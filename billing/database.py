"""The database of the ledger: opening it, and transactions whose failures are sentences. No tables here.

Everything is synchronous and safe to share between threads. Callers on an event loop use a thread.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL, Connection
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from billing.engines import BEGIN, describe_location, make_engine, parse_url
from billing.errors import LedgerNotReady, LedgerRefused, LedgerUnavailable
from billing.schema import HEAD, read_revision, refuse_newer


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

    def close(self) -> None:
        """Closes every connection. The database can be used again afterwards."""
        self._engine.dispose()

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError as error:
            raise LedgerRefused(f"The ledger at {self.location} refused a change. {_say(error)}") from error
        except PoolTimeoutError as error:
            raise LedgerUnavailable(
                f"The ledger at {self.location} is busy: no connection became free."
            ) from error
        except DBAPIError as error:
            raise LedgerUnavailable(f"The ledger at {self.location} cannot be used. {_say(error)}") from error


def open_database(url: str, *, create: bool) -> Database:
    """Opens a ledger whose schema is the one that this version needs.

    Args:
        url: `sqlite:///path`, `postgresql://...` or `postgres://...`.
        create: make or migrate the schema where needed, also when several processes start at once. Without it, that
            is left to `python -m billing.migrate`.

    Raises:
        LedgerUnavailable: the URL is no use, or the database cannot be reached or written.
        LedgerNotReady: the schema is older (with `create` False) or newer than this version's.
    """
    database = Database(parse_url(url))
    try:
        _bring_to_head(database, create=create)
    except SQLAlchemyError as error:
        database.close()
        raise LedgerUnavailable(f"The ledger at {database.location} cannot be used. {_say(error)}") from error
    except BaseException:
        database.close()
        raise
    return database


def _bring_to_head(database: Database, *, create: bool) -> None:
    found = _find_revision(database)
    if found == HEAD:
        return
    refuse_newer(found, database.location)
    if not create:
        schema = f"schema {found}" if found else "no schema yet"
        raise LedgerNotReady(
            f"The ledger at {database.location} has {schema}, this version needs {HEAD}."
            " Run `python -m billing.migrate`."
        )
    from billing.migrate import migrate_to_head  # noqa: PLC0415  Alembic takes 0.2 s to import and is rarely needed

    migrate_to_head(database)


def _find_revision(database: Database) -> str | None:
    if database.dialect == "sqlite" and not Path(database.url.database or "").exists():
        return None  # only looking must not leave an empty file behind
    with database.reading() as connection:
        return read_revision(connection)


def _say(error: SQLAlchemyError) -> str:
    """The driver's own first line, without SQLAlchemy's SQL and links."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    lines = str(cause).strip().splitlines() or [type(error).__name__]
    line = lines[0].strip()
    return line if line.endswith(".") else f"{line}."
