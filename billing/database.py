"""The database of the ledger: transactions whose failures are sentences. No tables here, and no schema (`billing.opening`).

Everything is synchronous and safe to share between threads. Callers on an event loop use a thread.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import URL, Connection
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from billing.engines import BEGIN, describe_location, make_engine
from billing.errors import LedgerRefused, LedgerUnavailable


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


def quote_driver(error: SQLAlchemyError) -> str:
    """The driver's own first line, without SQLAlchemy's SQL and links."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    lines = str(cause).strip().splitlines() or [type(error).__name__]
    line = lines[0].strip()
    return line if line.endswith(".") else f"{line}."
