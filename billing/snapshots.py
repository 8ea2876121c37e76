"""The ledger as it lies in its database at one moment: every value as it is stored, also where it is damaged.

For those who look for damage. Who reads the ledger to use it reads it through its column types.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import ColumnElement, Connection, FromClause, text, type_coerce
from sqlalchemy.types import NullType

from billing.database import Database


@contextmanager
def reading_verbatim(database: Database) -> Iterator[Connection]:
    """A transaction that only reads, and sees nothing that others write meanwhile.

    Text of SQLite that is no UTF-8 any more is read with half surrogate pairs in place of the damage.

    Raises:
        LedgerUnavailable: the database does not answer, or is damaged beyond reading.
    """
    with database.reading() as connection:
        if database.dialect == "postgresql":
            connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"))
            yield connection
            return
        driver: Any = connection.connection.driver_connection
        driver.text_factory = _decode
        try:
            yield connection
        finally:
            driver.text_factory = str


def list_verbatim(table: FromClause) -> list[ColumnElement[Any]]:
    """All columns of a table, to be selected as the driver gives them: JSON and, on SQLite, moments are texts."""
    return [type_coerce(column, NullType()) for column in table.c]


def _decode(stored: bytes) -> str:
    return stored.decode("utf-8", "surrogateescape")
