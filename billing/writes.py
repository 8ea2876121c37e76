"""The one write that SQLAlchemy spells differently for each database. No tables here."""

from functools import cache
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.dml import ReturningInsert


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
