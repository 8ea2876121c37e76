"""Stream the entries of the ledger with their runs and attempts, in order, every value as it is stored."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, FromClause, Select, case, func, select, text, type_coerce
from sqlalchemy.types import NullType

from gpt_image_runs.database.engine import Database
from gpt_image_runs.database.tables import ledger_entries, provider_attempts, runs

_MAX_VALUE = 200


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong. `what` is a sentence; `expected` and `found` are values as text, None where there are none.

    `run_id` and `entry_id` are None where the finding concerns a whole tenant or the whole database.
    """

    what: str
    tenant: str | None = None
    run_id: str | None = None
    entry_id: str | None = None
    expected: str | None = None
    found: str | None = None


def show_value(value: Any) -> str:
    """Format a value for a finding: text as it is, all else as JSON, and shortened."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    # Damaged text is read with lone surrogates, which can be neither printed nor sent.
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return text if len(text) <= _MAX_VALUE else f"{text[:_MAX_VALUE]}... ({len(text):,} characters)"


@contextmanager
def reading_verbatim(database: Database) -> Iterator[Connection]:
    """Open a read-only transaction that does not see what others write meanwhile.

    SQLite text that is not valid UTF-8 is read with surrogate escapes in place of the damage.

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
    """Return all columns of a table, to be read as the driver gives them.

    JSON is text, and so are times on SQLite.
    """
    return [type_coerce(column, NullType()) for column in table.c]


def _decode(stored: bytes) -> str:
    return stored.decode("utf-8", "surrogateescape")


# Rows in memory at a time, some KB each.
_PAGE = 500
_ENTRY = tuple(column.name for column in ledger_entries.c)
_RUN = tuple(column.name for column in runs.c)
_ATTEMPT = tuple(column.name for column in provider_attempts.c)


class StoredEntry(NamedTuple):
    """The columns of an entry, of its run and of its attempt, by name. A missing run or attempt has None in every column.

    For a correction, `billed` and `listed` are the sums of its run's entries before it, in micro-USD; otherwise zero.
    """

    columns: dict[str, Any]
    run: dict[str, Any]
    attempt: dict[str, Any]
    billed: int
    listed: int

    def find(self, what: str, *, expected: str | None = None, found: str | None = None) -> Finding:
        """Build a finding about this entry."""
        tenant, run_id, entry_id = (str(self.columns[name]) for name in ("tenant", "run_id", "entry_id"))
        return Finding(
            what=what, tenant=tenant, run_id=run_id, entry_id=entry_id, expected=expected, found=found
        )


def stream_entries(connection: Connection) -> Iterator[StoredEntry]:
    """Yield all entries in the order in which they were written."""
    run, attempt = len(_ENTRY), len(_ENTRY) + len(_RUN)
    with connection.execute(_select_entries(), execution_options={"yield_per": _PAGE}) as rows:
        for billed, listed, *row in rows:
            yield StoredEntry(
                dict(zip(_ENTRY, row[:run], strict=True)),
                dict(zip(_RUN, row[run:attempt], strict=True)),
                dict(zip(_ATTEMPT, row[attempt:], strict=True)),
                int(billed),  # PostgreSQL adds integers up to a Decimal without decimals
                int(listed),
            )


@cache
def _select_entries() -> Select[Any]:
    columns = (
        column for table in (ledger_entries, runs, provider_attempts) for column in list_verbatim(table)
    )
    return (
        select(_add_before("amount_micro_usd"), _add_before("list_cost_micro_usd"), *columns)
        .select_from(ledger_entries)
        .outerjoin(runs, runs.c.run_id == ledger_entries.c.run_id)
        .outerjoin(provider_attempts, provider_attempts.c.attempt_id == ledger_entries.c.attempt_id)
        .order_by(ledger_entries.c.sequence)
    )


def _add_before(column: str) -> ColumnElement[Any]:
    """Build the sum of a column over the run's earlier entries, for corrections only."""
    before = ledger_entries.alias()
    earlier = before.c.run_id == ledger_entries.c.run_id, before.c.sequence < ledger_entries.c.sequence
    total = select(func.coalesce(func.sum(before.c[column]), 0)).where(*earlier).scalar_subquery()
    return case((ledger_entries.c.corrects.is_not(None), total), else_=0)


_COLUMNS = ledger_entries.c["sequence", "tenant", "run_id", "entry_id"]


class PromisedPictures(NamedTuple):
    """The images of one entry: its image refs as JSON, which may be damaged."""

    sequence: int
    tenant: str
    run_id: str
    entry_id: str
    images: str


def read_promised_pictures(database: Database, *, after: int, limit: int) -> list[PromisedPictures]:
    """Return the images of the next `limit` entries after that number, in order.

    The list is empty where there are no more entries.
    """
    with reading_verbatim(database) as connection:
        query = select(*_COLUMNS, type_coerce(ledger_entries.c.images, NullType()))
        page = query.where(ledger_entries.c.sequence > after).order_by(ledger_entries.c.sequence).limit(limit)
        return [PromisedPictures._make(row) for row in connection.execute(page)]
