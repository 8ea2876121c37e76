"""Entries of the ledger with their run and their attempt, streamed in order, every value as it is stored."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, case, func, select

from billing.findings import Finding
from billing.snapshots import list_verbatim
from billing.tables import ledger_entries, provider_attempts, runs

_PAGE = 500
"""Rows in memory at a time, some KB each."""
_ENTRY = tuple(column.name for column in ledger_entries.c)
_RUN = tuple(column.name for column in runs.c)
_ATTEMPT = tuple(column.name for column in provider_attempts.c)


class StoredEntry(NamedTuple):
    """The columns of an entry, of its run and of its attempt, by name. Where there is no such run, all of it is None.

    For a correction, `billed` and `listed` are what the entries of its run before it add up to, in micro-USD; else zero.
    """

    columns: dict[str, Any]
    run: dict[str, Any]
    attempt: dict[str, Any]
    billed: int
    listed: int

    def find(self, what: str, *, expected: str | None = None, found: str | None = None) -> Finding:
        """Something that is wrong with this entry."""
        tenant, run_id, entry_id = (str(self.columns[name]) for name in ("tenant", "run_id", "entry_id"))
        return Finding(
            what=what, tenant=tenant, run_id=run_id, entry_id=entry_id, expected=expected, found=found
        )


def stream_entries(connection: Connection) -> Iterator[StoredEntry]:
    """All entries in the order in which they were written."""
    columns = (
        column for table in (ledger_entries, runs, provider_attempts) for column in list_verbatim(table)
    )
    query = (
        select(_add_before("amount_micro_usd"), _add_before("list_cost_micro_usd"), *columns)
        .select_from(ledger_entries)
        .outerjoin(runs, runs.c.run_id == ledger_entries.c.run_id)
        .outerjoin(provider_attempts, provider_attempts.c.attempt_id == ledger_entries.c.attempt_id)
        .order_by(ledger_entries.c.sequence)
    )
    run, attempt = len(_ENTRY), len(_ENTRY) + len(_RUN)
    with connection.execute(query, execution_options={"yield_per": _PAGE}) as rows:
        for billed, listed, *row in rows:
            yield StoredEntry(
                dict(zip(_ENTRY, row[:run], strict=True)),
                dict(zip(_RUN, row[run:attempt], strict=True)),
                dict(zip(_ATTEMPT, row[attempt:], strict=True)),
                int(billed),  # PostgreSQL adds integers up to a Decimal without decimals
                int(listed),
            )


def _add_before(column: str) -> ColumnElement[Any]:
    """The sum of a column over the entries of the run before this one, looked up for corrections alone."""
    before = ledger_entries.alias()
    earlier = before.c.run_id == ledger_entries.c.run_id, before.c.sequence < ledger_entries.c.sequence
    total = select(func.coalesce(func.sum(before.c[column]), 0)).where(*earlier).scalar_subquery()
    return case((ledger_entries.c.corrects.is_not(None), total), else_=0)
