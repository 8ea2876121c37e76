"""Reports for finance: entries, and sums by tenant, model or day. Nothing is written here.

Three rules hold for every sum. A hold counts as pending and has no amount. Runs against the simulator are in rows of
their own and never added to real ones. An amount belongs to the day on which its entry was written (`created_at`, UTC): a
day that is over keeps its total, because later corrections count on their own day.
"""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from pydantic import JsonValue
from sqlalchemy import ColumnElement, RowMapping, Select, and_, case, func, literal, select

from gpt_image_runs.billing.pricing.usage import measure_depth
from gpt_image_runs.contracts.base import Contract
from gpt_image_runs.contracts.billing import Basis, EntryKind, LineItem
from gpt_image_runs.contracts.images import ImageRef
from gpt_image_runs.contracts.money import Usd, format_usd
from gpt_image_runs.database.engine import Database
from gpt_image_runs.database.tables import ledger_entries

# The kinds that open a run's bill. The others correct one, and add neither a run nor an image.
_BILLS = ("charge", "estimate", "hold")


def make_conditions(
    *,
    tenant: str | None = None,
    run_id: str | None = None,
    model: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[ColumnElement[bool]]:
    """Build the conditions that select entries.

    `since` is inclusive, `until` exclusive, both of `created_at`.
    """
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
    """Build the expression for the day of an entry: "2026-11-23", UTC."""
    entry = ledger_entries.c
    if database.dialect == "postgresql":
        return func.to_char(func.timezone("UTC", entry.created_at), "YYYY-MM-DD")
    return func.substr(entry.created_at, 1, len("2026-11-23"))


def select_sums(keys: Sequence[ColumnElement[Any]], conditions: Sequence[ColumnElement[bool]]) -> Select[Any]:
    """Build the query for one row per combination of the labeled keys.

    Real and simulated runs are in rows of their own.
    """
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


# Levels of usage: the real one has three, and pydantic fails at some 250.
_MAX_SHOWN_DEPTH = 100


class EntryView(Contract):
    """An entry of the ledger as JSON. `amount_usd` is null for a hold, `list_cost_usd` where no list price is known.

    `usage` is the provider's object, verbatim; it is a text of JSON where it is nested too deeply.
    """

    sequence: int
    entry_id: str
    entry_key: str
    run_id: str
    tenant: str
    request_id: str
    attempt_id: str
    kind: EntryKind
    amount_usd: Usd | None
    basis: Basis
    flags: tuple[str, ...]
    reason: str | None
    rate_card: str | None
    rates: dict[str, str]
    line_items: tuple[LineItem, ...]
    list_cost_usd: Usd | None
    list_rate_card: str | None
    list_rates: dict[str, str]
    operation: str
    requested_model: str
    model: str
    provider: str
    provider_request_id: str | None
    simulated: bool
    usage: JsonValue
    images: tuple[ImageRef, ...]
    image_count: int
    size: str | None
    quality: str | None
    metadata: dict[str, str]
    fingerprint: str
    corrects: str | None
    actor: str | None
    sent_at: datetime
    created_at: datetime
    previous_hash: str
    entry_hash: str


class CostRow(Contract):
    """A sum of entries, of real or of simulated runs, never of both.

    `charged_usd` is settled: charges, and estimates and holds with their corrections. `estimated_usd` are the estimates without
    a correction, `total_usd` is the sum of the two. `pending` counts the holds without an amount, `list_cost_unknown` the
    bills that `list_cost_usd` does not include because no list price is known.
    """

    key: str
    simulated: bool
    runs: int
    images: int
    charged_usd: Usd
    estimated_usd: Usd
    total_usd: Usd
    pending: int
    list_cost_usd: Usd
    list_cost_unknown: int


class CostTotals(Contract):
    """The whole ledger in two rows. Never add them."""

    real: CostRow
    simulated: CostRow


def view_costs(row: RowMapping) -> CostRow:
    # PostgreSQL adds integers up to a Decimal without decimals.
    charged, estimated, list_cost = (int(row[name]) for name in ("charged", "estimated", "list_cost"))
    return CostRow(
        key=row["key"],
        simulated=row["simulated"],
        runs=row["runs"],
        images=row["images"],
        charged_usd=format_usd(charged),
        estimated_usd=format_usd(estimated),
        total_usd=format_usd(charged + estimated),
        pending=row["pending"],
        list_cost_usd=format_usd(list_cost),
        list_cost_unknown=row["list_cost_unknown"],
    )


def make_empty_row(*, simulated: bool) -> CostRow:
    zero = format_usd(0)
    return CostRow(
        key="total",
        simulated=simulated,
        runs=0,
        images=0,
        charged_usd=zero,
        estimated_usd=zero,
        total_usd=zero,
        pending=0,
        list_cost_usd=zero,
        list_cost_unknown=0,
    )


def view_entry(row: RowMapping) -> EntryView:
    return EntryView(
        **{**row, "usage": _show_usage(row["usage"])},
        amount_usd=_format_or_none(row["amount_micro_usd"]),
        list_cost_usd=_format_or_none(row["list_cost_micro_usd"]),
    )


def _show_usage(usage: JsonValue) -> JsonValue:
    # One absurd answer of a provider must not hide all other entries from finance.
    return usage if measure_depth(usage) <= _MAX_SHOWN_DEPTH else json.dumps(usage)


def _format_or_none(micro_usd: int | None) -> str | None:
    return None if micro_usd is None else format_usd(micro_usd)


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
    """List entries, newest first, at most `limit`.

    `since` is inclusive, `until` exclusive, both of `created_at` and with a time zone. As JSON: `entry.model_dump(mode="json")`.
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
    """Sum entries by tenant, model or day ("2026-11-23", UTC), sorted by key, real before simulated."""
    conditions = make_conditions(tenant=tenant, since=since, until=until)
    return _sum_entries(database, _choose_key(database, grouping), conditions)


def total(
    database: Database,
    *,
    tenant: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> CostTotals:
    """Sum all entries, real and simulated apart."""
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
