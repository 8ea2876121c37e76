"""What finance reads: entries, and sums by tenant, model or day. Nothing is written here.

Three rules keep a sum honest. A hold is counted as pending and is no amount at all. Runs against the simulator are in rows of
their own and never added to real ones. An amount belongs to the day on which its entry was written (`created_at`, UTC): a
day that is over keeps its total, as later corrections stand on their own day.
"""

from datetime import datetime
from typing import Literal

from sqlalchemy import ColumnElement, literal, select

from billing.database import Database
from billing.entry_sums import day_of_entry, make_conditions, select_sums
from billing.report_rows import CostRow, CostTotals, EntryView, make_empty_row, view_costs, view_entry
from billing.tables import ledger_entries

Grouping = Literal["tenant", "model", "day"]


def list_entries(
    database: Database,
    *,
    tenant: str | None = None,
    run_id: str | None = None,
    model: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int | None = None,
) -> tuple[EntryView, ...]:
    """Entries, the newest first, at most `limit` of them.

    `since` is included and `until` is not, both of `created_at` and with a time zone. As JSON: `entry.model_dump(mode="json")`.
    """
    conditions = make_conditions(tenant=tenant, run_id=run_id, model=model, since=since, until=until)
    query = select(ledger_entries).where(*conditions).order_by(ledger_entries.c.sequence.desc()).limit(limit)
    with database.reading() as connection:
        rows = connection.execute(query).mappings().all()
    return tuple(view_entry(row) for row in rows)


def costs_by(
    database: Database,
    grouping: Grouping,
    *,
    tenant: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> tuple[CostRow, ...]:
    """Sums by tenant, model or day ("2026-11-23", UTC), in the order of their keys, real before simulated."""
    conditions = make_conditions(tenant=tenant, since=since, until=until)
    return _sum_entries(database, _choose_key(database, grouping), conditions)


def total(
    database: Database,
    *,
    tenant: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> CostTotals:
    """The sum of everything, real and simulated apart."""
    conditions = make_conditions(tenant=tenant, since=since, until=until)
    rows = _sum_entries(database, literal("total"), conditions)
    by_reality = {row.simulated: row for row in rows}
    return CostTotals(
        real=by_reality.get(False) or make_empty_row(simulated=False),
        simulated=by_reality.get(True) or make_empty_row(simulated=True),
    )


def _choose_key(database: Database, grouping: Grouping) -> ColumnElement[str]:
    return day_of_entry(database) if grouping == "day" else ledger_entries.c[grouping]


def _sum_entries(
    database: Database, key: ColumnElement[str], conditions: list[ColumnElement[bool]]
) -> tuple[CostRow, ...]:
    with database.reading() as connection:
        rows = connection.execute(select_sums([key.label("key")], conditions)).mappings().all()
    # Sorted here: each database, and each of its locales, has another order of texts.
    return tuple(sorted(map(view_costs, rows), key=lambda row: (row.key, row.simulated)))
