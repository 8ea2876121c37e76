"""What a report consists of, and how rows of the database become it: integers in micro-USD become decimal strings.

No queries here.
"""

import json
from datetime import datetime

from pydantic import JsonValue
from sqlalchemy import RowMapping

from billing.nesting import measure_depth
from contracts.base import Contract
from contracts.billing import Basis, EntryKind, LineItem
from contracts.images import ImageRef
from contracts.money import Usd, format_usd

_DEEPEST_SHOWN = 100
"""Levels of usage: the real one has three, and pydantic gives up at some 250."""


class EntryView(Contract):
    """An entry of the ledger as JSON shows it. `amount_usd` is null for a hold, `list_cost_usd` where no list price is known.

    `usage` is the provider's object, verbatim; as a text of JSON where it is nested without measure.
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
    """A sum of entries, of real runs or of simulated ones, never of both.

    `charged_usd` is settled: charges, and estimates and holds with their corrections. `estimated_usd` is the estimates that
    nothing has corrected yet, `total_usd` the two together. `pending` counts the holds whose amount is not known yet, and
    `list_cost_unknown` the bills that `list_cost_usd` does not include, as no list price is known for them.
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
    """The whole ledger in two rows that must never be added."""

    real: CostRow
    simulated: CostRow


def view_costs(row: RowMapping) -> CostRow:
    """The sums of one group of entries."""
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
    """The sum of no entries."""
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
    """One entry."""
    return EntryView(
        **{**row, "usage": _show_usage(row["usage"])},
        amount_usd=_format_or_none(row["amount_micro_usd"]),
        list_cost_usd=_format_or_none(row["list_cost_micro_usd"]),
    )


def _show_usage(usage: JsonValue) -> JsonValue:
    # One absurd answer of a provider must not hide all other entries from finance.
    return usage if measure_depth(usage) <= _DEEPEST_SHOWN else json.dumps(usage)


def _format_or_none(micro_usd: int | None) -> str | None:
    return None if micro_usd is None else format_usd(micro_usd)
