"""What somebody with all rights on the database can do: change anything, past triggers, foreign keys and checks."""

import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from datetime import date
from typing import Any

import psycopg
from sqlalchemy import Table, text

from gpt_image_runs.billing.budgets.budgets import Budgets
from gpt_image_runs.billing.hash_chain import genesis_hash, hash_entry
from gpt_image_runs.billing.reconciliation.compare import compare_day
from gpt_image_runs.billing.reconciliation.history import ComparisonLog
from gpt_image_runs.billing.verification.spend import find_wrong_spend
from gpt_image_runs.billing.verification.verify import LedgerVerification
from gpt_image_runs.contracts.budgets import BudgetDecision
from gpt_image_runs.contracts.provider_reconciliation import ComparisonOrder, ProviderDay
from gpt_image_runs.database.engine import Database
from gpt_image_runs.database.tables import metadata
from tests.support.ledger.ledger_examples import FINISHED_AT

# No part of the ledger's truth: they change while a batch runs.
WORKING_TABLES = {"batches", "batch_lines"}
LEDGER = sorted(metadata.tables.keys() - WORKING_TABLES)


def tamper(database: Database, *statements: str) -> None:
    """Execute SQL past all of the database's guards."""
    with unguarded(database) as execute:
        for statement in statements:
            execute(statement, ())


def forge(database: Database, *statements: str) -> None:
    """Tamper, and then compute all hashes and heads again, so that the chain is consistent."""
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
    """Yield a function that executes and commits a statement, with `?` for its values, past all of the database's guards."""
    if database.dialect == "sqlite":
        path = database.url.database or ""
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            for (name,) in connection.execute(
                "SELECT name FROM sqlite_master WHERE type = 'trigger'"
            ).fetchall():
                connection.execute(f"DROP TRIGGER {name}")
            connection.execute("PRAGMA ignore_check_constraints = ON")
            connection.execute("PRAGMA synchronous = OFF")
            yield connection.execute
        return
    url = database.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as connected:
        connected.execute("SET session_replication_role = replica")
        checks = connected.execute(
            "SELECT conrelid::regclass::text, conname FROM pg_constraint WHERE contype = 'c' AND connamespace = 'public'::regnamespace"
        )
        for table, check in checks.fetchall():
            connected.execute(f"ALTER TABLE {table} DROP CONSTRAINT {check}".encode())

        def execute(statement: str, parameters: tuple[object, ...]) -> None:
            connected.execute(statement.replace("?", "%s").encode(), parameters or None)

        yield execute


def add_decisions(database: Database) -> None:
    """Record two budgets of a tenant and two comparisons, which no run writes."""
    for key, usd in (("one", "5.00"), ("two", "1.00")):
        decision = {"tenant": "acme", "limits": {"month": usd}, "reason": "a trial", "actor": "ada"}
        Budgets(database).decide(key, BudgetDecision.model_validate(decision))
        comparison = compare_day(
            ComparisonOrder(), date(2026, 11, 22), "openai", (), ProviderDay(counts=(), lines=())
        )
        ComparisonLog(database).record(key, comparison)


def find_all(database: Database) -> list[str]:
    verification = LedgerVerification(database, lambda _checked, _total: None)
    return [finding.what for finding in (*verification.find(), *find_wrong_spend(database))]


def read_rows(database: Database, table: str) -> list[dict[str, Any]]:
    """Return every row as the driver gives it."""
    with database.reading() as connection:
        rows = connection.execute(text(f"SELECT * FROM {table}"))
        return [dict(row) for row in rows.mappings()]


def alter(table: Table, column: str, value: Any) -> Any:
    """Return another value for a column, as similar as its type allows."""
    kind = table.c[column].type.python_type
    if isinstance(value, bool) or column == "simulated":
        return not value
    if isinstance(value, int):
        return value + 1000
    if value is None:
        return 1000 if kind is int else FINISHED_AT.isoformat(sep=" ") if "at" in column else "forged"
    if isinstance(value, str):
        return f"{value[:-1]}{'0' if value[-1:] != '0' else '1'}"
    return value.replace(microsecond=(value.microsecond + 1) % 1_000_000)


def write(table: str, row: dict[str, Any]) -> tuple[str, tuple[Any, ...]]:
    names = ", ".join(row)
    return f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(row))})", tuple(row.values())


def delete(table: str, row: dict[str, Any]) -> tuple[str, tuple[Any, ...]]:
    keys = {column.name: row[column.name] for column in metadata.tables[table].primary_key}
    where = " AND ".join(f"{name} = ?" for name in keys)
    return f"DELETE FROM {table} WHERE {where}", tuple(keys.values())


def copy(table: str, row: dict[str, Any]) -> dict[str, Any]:
    """Return the row a second time, with unique keys."""
    unique = {
        column.name
        for constraint in metadata.tables[table].constraints
        for column in getattr(constraint, "columns", ())
        if constraint.__class__.__name__ in {"PrimaryKeyConstraint", "UniqueConstraint"}
    }
    renamed = unique - {"simulated", "tenant"} or {"tenant"}
    return {
        name: value + 1000 if name in renamed and isinstance(value, int) else f"{value}-2" if name in renamed else value
        for name, value in row.items()
    }  # fmt: skip


def list_alterations(
    table: str, rows: list[dict[str, Any]], chosen: Collection[int] | None = None
) -> Iterator[tuple[str, list[dict[str, Any]], list[dict[str, Any]]]]:
    """Yield what is altered, the rows to delete and the rows to insert; of the `chosen` rows, or of all."""
    for number, row in enumerate(rows):
        if chosen is not None and number not in chosen:
            continue
        for name, value in row.items():
            if name == "sequence" and (table == "ledger_entries" or number):
                continue  # a number that leaves the order as it is says nothing else
            forged = {**row, name: alter(metadata.tables[table], name, value)}
            yield f"{table} {number}: {name} changed", [row], [forged]
            if value is not None and metadata.tables[table].c[name].nullable:
                yield f"{table} {number}: {name} emptied", [row], [{**row, name: None}]
        yield f"{table} {number}: taken out", [row], []
        yield f"{table} {number}: put in", [], [copy(table, row)]
