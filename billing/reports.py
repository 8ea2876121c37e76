"""What finance reads: entries, and sums by tenant, model or day. Nothing is written here.

Three rules keep a sum honest. A hold is counted as pending and is no amount at all. Runs against the simulator are in rows of
their own and never added to real ones. An amount belongs to the day on which its entry was written (`created_at`, UTC): a
day that is over keeps its total, as later corrections stand on their own day.
"""

from datetime import datetime
from typing import Any, Literal

from sqlalchemy import ColumnElement, and_, case, func, literal, select
from sqlalchemy.orm import aliased

from billing.database import Database
from billing.report_rows import CostRow, CostTotals, EntryView, make_empty_row, view_costs, view_entry
from billing.tables import ledger_entries

Grouping = Literal["tenant", "model", "day"]

_BILLS = ("charge", "estimate", "hold")
"""The kinds that open a run's bill. The others correct one, and make neither a run nor a picture."""


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
    conditions = _make_conditions(tenant=tenant, run_id=run_id, model=model, since=since, until=until)
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
    conditions = _make_conditions(tenant=tenant, since=since, until=until)
    return _sum_entries(database, _choose_key(database, grouping), conditions)


def total(
    database: Database,
    *,
    tenant: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> CostTotals:
    """The sum of everything, real and simulated apart."""
    conditions = _make_conditions(tenant=tenant, since=since, until=until)
    rows = _sum_entries(database, literal("total"), conditions)
    by_reality = {row.simulated: row for row in rows}
    return CostTotals(
        real=by_reality.get(False) or make_empty_row(simulated=False),
        simulated=by_reality.get(True) or make_empty_row(simulated=True),
    )


def _make_conditions(
    *,
    tenant: str | None = None,
    run_id: str | None = None,
    model: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[ColumnElement[bool]]:
    entry = ledger_entries.c
    wanted = {entry.tenant: tenant, entry.run_id: run_id, entry.model: model}
    conditions: list[ColumnElement[bool]] = [
        column == value for column, value in wanted.items() if value is not None
    ]
    if since is not None:
        conditions.append(entry.created_at >= since)
    if until is not None:
        conditions.append(entry.created_at < until)
    return conditions


def _choose_key(database: Database, grouping: Grouping) -> ColumnElement[str]:
    entry = ledger_entries.c
    if grouping != "day":
        return entry[grouping]
    if database.dialect == "postgresql":
        return func.to_char(func.timezone("UTC", entry.created_at), "YYYY-MM-DD")
    return func.substr(entry.created_at, 1, len("2026-11-23"))


def _sum_entries(
    database: Database, key: ColumnElement[str], conditions: list[ColumnElement[bool]]
) -> tuple[CostRow, ...]:
    entry = ledger_entries.c
    correction = aliased(ledger_entries)
    corrected = select(correction.c.sequence).where(correction.c.corrects == entry.entry_id).exists()
    bill = entry.kind.in_(_BILLS)
    listed_later = (
        select(correction.c.sequence)
        .where(correction.c.corrects == entry.entry_id, correction.c.list_cost_micro_usd.is_not(None))
        .exists()
    )
    estimated = and_(entry.kind == "estimate", ~corrected)
    unlisted = and_(bill, entry.list_cost_micro_usd.is_(None), ~listed_later)
    query = (
        select(
            key.label("key"),
            entry.simulated,
            _add(case((bill, 1), else_=0)).label("runs"),
            _add(case((bill, entry.image_count), else_=0)).label("images"),
            _add(case((estimated, 0), else_=entry.amount_micro_usd)).label("charged"),
            _add(case((estimated, entry.amount_micro_usd), else_=0)).label("estimated"),
            _add(case((and_(entry.kind == "hold", ~corrected), 1), else_=0)).label("pending"),
            _add(entry.list_cost_micro_usd).label("list_cost"),
            _add(case((unlisted, 1), else_=0)).label("list_cost_unknown"),
        )
        .where(*conditions)
        .group_by("key", entry.simulated)
    )
    with database.reading() as connection:
        rows = connection.execute(query).mappings().all()
    # Sorted here: each database, and each of its locales, has another order of texts.
    return tuple(sorted(map(view_costs, rows), key=lambda row: (row.key, row.simulated)))


def _add(amounts: ColumnElement[Any]) -> ColumnElement[Any]:
    return func.coalesce(func.sum(amounts), 0)
