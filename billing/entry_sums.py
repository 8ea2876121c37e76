"""Sums of entries as one query, by whatever they are to be summed up by. What the columns mean is told in `billing.reports`."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, case, func, select

from billing.database import Database
from billing.tables import ledger_entries

_BILLS = ("charge", "estimate", "hold")
"""The kinds that open a run's bill. The others correct one, and make neither a run nor a picture."""


def make_conditions(
    *,
    tenant: str | None = None,
    run_id: str | None = None,
    model: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[ColumnElement[bool]]:
    """What narrows entries down. `since` is included and `until` is not, both of `created_at`."""
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


def day_of_entry(database: Database) -> ColumnElement[str]:
    """The day on which an entry was written: "2026-11-23", UTC."""
    entry = ledger_entries.c
    if database.dialect == "postgresql":
        return func.to_char(func.timezone("UTC", entry.created_at), "YYYY-MM-DD")
    return func.substr(entry.created_at, 1, len("2026-11-23"))


def select_sums(keys: Sequence[ColumnElement[Any]], conditions: Sequence[ColumnElement[bool]]) -> Select[Any]:
    """A row for each combination of the keys, which have labels, with real and simulated runs in rows of their own."""
    entry = ledger_entries.c
    correction = ledger_entries.alias()
    corrected = select(correction.c.sequence).where(correction.c.corrects == entry.entry_id).exists()
    bill = entry.kind.in_(_BILLS)
    listed_later = (
        select(correction.c.sequence)
        .where(correction.c.corrects == entry.entry_id, correction.c.list_cost_micro_usd.is_not(None))
        .exists()
    )
    estimated = and_(entry.kind == "estimate", ~corrected)
    unlisted = and_(bill, entry.list_cost_micro_usd.is_(None), ~listed_later)
    return (
        select(
            *keys,
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
        .group_by(*(key.name for key in keys), entry.simulated)
    )


def _add(amounts: ColumnElement[Any]) -> ColumnElement[Any]:
    return func.coalesce(func.sum(amounts), 0)
