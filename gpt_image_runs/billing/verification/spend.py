"""Check the counters of what tenants have spent against all attempts and entries. Nothing is written here."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Connection, Select, Text, and_, case, cast, func, select

from gpt_image_runs.billing.budgets.spend import NOTHING, Counter, Spend
from gpt_image_runs.billing.verification.snapshot import Finding, reading_verbatim
from gpt_image_runs.contracts.money import format_usd
from gpt_image_runs.database.engine import Database
from gpt_image_runs.database.tables import ledger_entries, provider_attempts, runs, tenant_spend

_DAY, _MONTH = len("2026-11-23"), len("2026-11")
_counter = tenant_spend.c
# A damaged SQLite file may hold any value in any column. Cast to text and to a number, each can be compared.
_COUNTERS = select(
    cast(_counter.tenant, Text),
    cast(_counter.span, Text),
    _counter.simulated,
    *(cast(column, BigInteger) for column in (_counter.used_micro_usd, _counter.reserved_micro_usd)),
    cast(_counter.unpriced, BigInteger),
)


def find_wrong_spend(database: Database) -> Iterator[Finding]:
    """Yield each counter that differs from the sum of attempts and entries.

    Raises:
        LedgerUnavailable: the database does not answer, or is damaged beyond reading.
    """
    with reading_verbatim(database) as connection:
        for name, (expected, found) in sorted(find_differences(connection).items()):
            money = "simulated money" if name.simulated else "money"
            yield Finding(
                what=f"What the tenant has spent of {money} in {name.span} is counted wrong, so its budget is too.",
                tenant=name.tenant,
                expected=_describe(expected),
                found=_describe(found),
            )


def find_differences(connection: Connection) -> dict[Counter, tuple[Spend, Spend]]:
    """Return the expected and the stored value of each counter where they differ.

    A month is compared with its days as they are counted, so that a wrong day is reported alone.
    """
    stored = _read_counters(connection)
    days = {name: counted for name, counted in stored.items() if len(name.span) == _DAY}
    months = {name: counted for name, counted in stored.items() if len(name.span) != _DAY}
    compared = ((_compute_days(connection), days), (_sum_up_months(days), months))
    return {
        name: (right.get(name, NOTHING), counted.get(name, NOTHING))
        for right, counted in compared
        for name in right.keys() | counted.keys()
        if right.get(name, NOTHING) != counted.get(name, NOTHING)
    }


def _read_counters(connection: Connection) -> dict[Counter, Spend]:
    return _name_rows(connection.execute(_COUNTERS))


def _compute_days(connection: Connection) -> dict[Counter, Spend]:
    return _name_rows(connection.execute(_select_days(connection.dialect.name)))


@cache
def _select_days(dialect: str) -> Select[Any]:
    attempt = provider_attempts.c
    billed = (
        select(ledger_entries.c.attempt_id, func.sum(ledger_entries.c.amount_micro_usd).label("amount"))
        .group_by(ledger_entries.c.attempt_id)
        .subquery()
    )
    reserves = and_(billed.c.amount.is_(None), attempt.outcome.in_(("succeeded", "unknown")))
    unpriced = and_(reserves, attempt.reserved_micro_usd.is_(None))
    return (
        select(
            cast(runs.c.tenant, Text).label("tenant"),
            _name_day(dialect).label("day"),
            attempt.simulated,
            _add(func.coalesce(billed.c.amount, 0)),
            _add(case((reserves, func.coalesce(attempt.reserved_micro_usd, 0)), else_=0)),
            _add(case((unpriced, 1), else_=0)),
        )
        .join_from(provider_attempts, runs)
        .outerjoin(billed, billed.c.attempt_id == attempt.attempt_id)
        .group_by("tenant", "day", attempt.simulated)
    )


def _add(amounts: ColumnElement[Any]) -> ColumnElement[int]:
    return cast(func.sum(amounts), BigInteger)  # PostgreSQL adds integers up to a Decimal


def _name_day(dialect: str) -> ColumnElement[str]:
    sent_at = provider_attempts.c.sent_at
    if dialect == "postgresql":
        return func.to_char(func.timezone("UTC", sent_at), "YYYY-MM-DD")
    return func.substr(sent_at, 1, _DAY)


def _name_rows(rows: Iterable[Any]) -> dict[Counter, Spend]:
    return {
        Counter(tenant, span, simulated): Spend(used, reserved, unpriced)
        for tenant, span, simulated, used, reserved, unpriced in rows
    }


def _sum_up_months(days: dict[Counter, Spend]) -> dict[Counter, Spend]:
    months: dict[Counter, Spend] = defaultdict(Spend)
    for name, counted in days.items():
        months[name._replace(span=name.span[:_MONTH])] += counted
    return months


def _describe(counted: Spend) -> str:
    more = f", {counted.unpriced:,} without a price" if counted.unpriced else ""
    return f"{format_usd(counted.used)} used, {format_usd(counted.reserved)} reserved{more}"
