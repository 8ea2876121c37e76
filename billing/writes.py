"""The one write that SQLAlchemy spells differently for each database. No tables here."""

from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite


def insert_once(connection: Connection, table: Table, row: dict[str, Any], *, key: str | None = None) -> bool:
    """Inserts a row unless one of its unique keys is taken. Returns whether it was inserted.

    Waits for another transaction that is inserting the same key. Where it returns False, the other row can be read. With
    `key`, the name of a unique column, only that one may be taken: any other is an error.
    """
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement = (
        insert(table)
        .values(row)
        .on_conflict_do_nothing(index_elements=key and [key])
        .returning(*table.primary_key)
    )
    return connection.execute(statement).first() is not None
