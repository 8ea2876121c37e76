"""Report some days for finance: sums by day, tenant and model at once, from which every other sum follows exactly.

An amount belongs to the day on which its entry was written, as in `gpt_image_runs.billing.reports.entries`; a correction
counts on its own day. What may have been paid for nothing has no entry: it belongs to the day on which its request was sent,
and is listed apart. Nothing is written here.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import Any

from pydantic import JsonValue
from sqlalchemy import ColumnElement, RowMapping, Select, Text, select, type_coerce

from gpt_image_runs.billing.attempts.exposure import ExposedAttempt, find_exposure
from gpt_image_runs.billing.ledger.queries import UnbilledAttempt, find_unbilled
from gpt_image_runs.billing.pricing.usage import UnbillableUsage, read_count
from gpt_image_runs.billing.reports.entries import day_of_entry, make_conditions, select_sums
from gpt_image_runs.database.engine import Database
from gpt_image_runs.database.tables import ledger_entries

# Day, tenant, model, and whether the provider was simulated.
CellKey = tuple[str, str, str, bool]


@dataclass(frozen=True, slots=True)
class Sums:
    """Sums of entries in micro-USD. The fields are those of `gpt_image_runs.billing.reports.entries.CostRow`.

    Tokens are those that the provider reported for these entries. A usage that was learned later counts on its own day, minus
    what was known before.
    """

    runs: int = 0
    images: int = 0
    charged_micro_usd: int = 0
    estimated_micro_usd: int = 0
    pending: int = 0
    list_cost_micro_usd: int = 0
    list_cost_unknown: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    @property
    def total_micro_usd(self) -> int:
        """What is owed as far as it is known: charges and estimates."""
        return self.charged_micro_usd + self.estimated_micro_usd


@dataclass(frozen=True, slots=True)
class Cell:
    """The sums of one day ("2026-11-23", UTC), one tenant and one model, of real or of simulated runs."""

    day: str
    tenant: str
    model: str
    simulated: bool
    sums: Sums


@dataclass(frozen=True, slots=True)
class MonthReport:
    """The report of some days. Never add real and simulated: see `simulated` everywhere.

    `exposed` may have been paid for nothing; `unbilled` was paid and has no entry yet. Both count on the day of sending.
    """

    cells: tuple[Cell, ...]
    exposed: tuple[ExposedAttempt, ...]
    unbilled: tuple[UnbilledAttempt, ...]


def read_month(
    database: Database, since: datetime, until: datetime, now: datetime, *, tenant: str | None = None
) -> MonthReport:
    """Read the report of all entries from `since` until before `until`, as they are now."""
    conditions = make_conditions(tenant=tenant, since=since, until=until)
    entry = ledger_entries.c
    keys = [day_of_entry(database).label("day"), entry.tenant, entry.model]
    with database.reading() as connection:
        rows = connection.execute(select_sums(keys, conditions)).mappings().all()
        tokens = _count_tokens(connection.execute(_select_usages(keys, conditions)).mappings())
    cells = (_view_cell(row, tokens) for row in rows)
    unbilled = find_unbilled(database, now, tenant=tenant).attempts
    return MonthReport(
        # Sorted here: each database, and each of its locales, has another order of texts.
        cells=tuple(sorted(cells, key=attrgetter("day", "tenant", "model", "simulated"))),
        exposed=find_exposure(database, now, tenant=tenant, since=since, until=until).attempts,
        unbilled=tuple(attempt for attempt in unbilled if since <= attempt.sent_at < until),
    )


def add_up(sums: Iterable[Sums]) -> Sums:
    """Add up sums."""
    totals = Counter[str]()
    for one in sums:
        totals.update({name: getattr(one, name) for name in Sums.__slots__})
    return Sums(**totals)


def _select_usages(
    keys: Sequence[ColumnElement[str]], conditions: Sequence[ColumnElement[bool]]
) -> Select[Any]:
    entry, corrected = ledger_entries.c, ledger_entries.alias()
    shown: list[ColumnElement[Any]] = [
        *keys,
        entry.simulated,
        type_coerce(entry.usage, Text).label("usage"),
        type_coerce(corrected.c.usage, Text).label("known_before"),
    ]
    return (
        select(*shown)
        .join_from(ledger_entries, corrected, corrected.c.entry_id == entry.corrects, isouter=True)
        .where(*conditions, entry.usage.is_not(None))
    )


def _count_tokens(rows: Iterable[RowMapping]) -> dict[CellKey, Counter[str]]:
    """Add up the tokens of usages.

    Not in SQL: a usage is stored verbatim, and may be nested or written in ways that no database parses.
    """
    tokens: dict[CellKey, Counter[str]] = {}
    for row in rows:
        counts = tokens.setdefault(_key_of(row), Counter())
        counts.update(_read_tokens(row["usage"]))
        counts.subtract(_read_tokens(row["known_before"]))
    return tokens


def _read_tokens(usage: str | None) -> dict[str, int]:
    raw = json.loads(usage) if usage else None
    return {name: _read_count(raw, name) for name in ("input_tokens", "output_tokens")}


def _read_count(usage: JsonValue, name: str) -> int:
    """Return a count, 0 where it is not valid: the bill is then a hold or an estimate."""
    try:
        return (read_count(usage, "usage", name) or 0) if isinstance(usage, dict) else 0
    except UnbillableUsage:
        return 0


def _key_of(row: RowMapping) -> CellKey:
    return row["day"], row["tenant"], row["model"], row["simulated"]


def _view_cell(row: RowMapping, tokens: dict[CellKey, Counter[str]]) -> Cell:
    counted = tokens.get(_key_of(row), Counter[str]())
    return Cell(
        *_key_of(row),
        # PostgreSQL adds integers up to a Decimal without decimals.
        Sums(
            runs=int(row["runs"]),
            images=int(row["images"]),
            charged_micro_usd=int(row["charged"]),
            estimated_micro_usd=int(row["estimated"]),
            pending=int(row["pending"]),
            list_cost_micro_usd=int(row["list_cost"]),
            list_cost_unknown=int(row["list_cost_unknown"]),
            input_tokens=counted["input_tokens"],
            output_tokens=counted["output_tokens"],
        ),
    )
