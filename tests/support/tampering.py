"""What somebody with all rights on the database can do: change anything, past triggers, foreign keys and checks."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg
from sqlalchemy import text

from gpt_image_runs.billing.hash_chain import genesis_hash, hash_entry
from gpt_image_runs.database.engine import Database


def tamper(database: Database, *statements: str) -> None:
    """Carries out SQL without any of the database's guards."""
    with unguarded(database) as execute:
        for statement in statements:
            execute(statement, ())


def forge(database: Database, *statements: str) -> None:
    """Tampers, and then makes all hashes and heads anew: the whole chain is right again."""
    tamper(database, *statements)
    heads: dict[str, tuple[int, str]] = {}
    with database.reading() as connection:
        rows = connection.execute(text("SELECT * FROM ledger_entries ORDER BY sequence")).mappings().all()
    with unguarded(database) as execute:
        execute("UPDATE ledger_entries SET previous_hash = entry_id", ())  # out of each other's way
        for row in rows:
            count, last = heads.get(row["tenant"], (0, genesis_hash(row["tenant"])))
            entry_hash = hash_entry({**row, "previous_hash": last})
            execute(
                "UPDATE ledger_entries SET previous_hash = ?, entry_hash = ? WHERE sequence = ?",
                (last, entry_hash, row["sequence"]),
            )
            heads[row["tenant"]] = (count + 1, entry_hash)
        execute("DELETE FROM ledger_heads", ())
        for tenant, (count, entry_hash) in heads.items():
            execute("INSERT INTO ledger_heads VALUES (?, ?, ?)", (tenant, count, entry_hash))


@contextmanager
def unguarded(database: Database) -> Iterator[Any]:
    """What carries out a statement with `?` for its values, without any of the database's guards."""
    if database.dialect == "sqlite":
        with closing(sqlite3.connect(database.url.database or "")) as connection, connection:
            for (name,) in connection.execute(
                "SELECT name FROM sqlite_master WHERE type = 'trigger'"
            ).fetchall():
                connection.execute(f"DROP TRIGGER {name}")
            connection.execute("PRAGMA ignore_check_constraints = ON")
            yield connection.execute
        return
    url = database.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url) as connected:
        connected.execute("SET session_replication_role = replica")
        checks = connected.execute(
            "SELECT conrelid::regclass::text, conname FROM pg_constraint WHERE contype = 'c' AND connamespace = 'public'::regnamespace"
        )
        for table, check in checks.fetchall():
            connected.execute(f"ALTER TABLE {table} DROP CONSTRAINT {check}".encode())

        def execute(statement: str, parameters: tuple[object, ...]) -> None:
            connected.execute(statement.replace("?", "%s").encode(), parameters or None)

        yield execute
