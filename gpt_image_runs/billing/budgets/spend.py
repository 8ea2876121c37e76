"""Count what tenants have spent, in the transaction that begins, ends, bills or corrects an attempt.

An attempt with an amount has used the sum of its entries. One that was paid or may have been, and has no amount, reserves its
worst case: while it is in progress, while its outcome is unknown, while its bill is on hold. One that was rejected or never
sent costs nothing. It counts on the day on which it was sent (UTC), and in the month of that day.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from sqlalchemy import BigInteger, Connection, bindparam, update

from gpt_image_runs.contracts.budgets import Period
from gpt_image_runs.database.engine import insert_once
from gpt_image_runs.database.tables import tenant_spend


class Account(NamedTuple):
    """The counters that an attempt counts in. Real and simulated money are counted apart."""

    tenant: str
    sent_at: datetime
    simulated: bool


class Counter(NamedTuple):
    """The name of a counter. `span` is a month ("2026-11") or a day ("2026-11-23")."""

    tenant: str
    span: str
    simulated: bool


@dataclass(frozen=True)
class Spend:
    """Amounts in micro-USD, or a change of them. `unpriced` counts attempts without a known worst case."""

    used: int = 0
    reserved: int = 0
    unpriced: int = 0

    def __add__(self, other: "Spend") -> "Spend":
        return Spend(self.used + other.used, self.reserved + other.reserved, self.unpriced + other.unpriced)

    def __sub__(self, other: "Spend") -> "Spend":
        return Spend(self.used - other.used, self.reserved - other.reserved, self.unpriced - other.unpriced)


NOTHING = Spend()

_counter = tenant_spend.c
# Built once: building it takes longer than executing it, and each request counts several times.
_COUNT = (
    update(tenant_spend)
    .where(
        _counter.tenant == bindparam("of_tenant"),
        _counter.span == bindparam("of_span"),
        _counter.simulated == bindparam("of_simulated"),
    )
    .values(
        used_micro_usd=_counter.used_micro_usd + bindparam("more_used", type_=BigInteger),
        reserved_micro_usd=_counter.reserved_micro_usd + bindparam("more_reserved", type_=BigInteger),
        unpriced=_counter.unpriced + bindparam("more_unpriced", type_=BigInteger),
    )
    .returning(_counter.used_micro_usd, _counter.reserved_micro_usd, _counter.unpriced)
)


def reserve(worst_case: int | None) -> Spend:
    """Return what an attempt counts for as long as it has no amount."""
    return Spend(unpriced=1) if worst_case is None else Spend(reserved=worst_case)


def name_spans(moment: datetime) -> dict[Period, str]:
    """Return the month and the day of a moment in UTC: "2026-11" and "2026-11-23".

    The month comes first: see `count_spend`.
    """
    day = moment.astimezone(UTC).date().isoformat()
    return {"month": day[: len("2026-11")], "day": day}


def count_spend(connection: Connection, account: Account, change: Spend) -> dict[Period, Spend]:
    """Change the counters of a tenant's month and day, and return their new values.

    The month's counter is locked first, until the transaction ends: others that count for the same tenant, month and kind of
    money wait. So no other reservation can come between the count and a decision that is based on it.
    """
    return {
        period: change_counter(connection, Counter(account.tenant, span, account.simulated), change)
        for period, span in name_spans(account.sent_at).items()
    }


def change_counter(connection: Connection, name: Counter, change: Spend) -> Spend:
    """Change one counter, and return its new value."""
    row = {f"of_{part}": value for part, value in name._asdict().items()}
    row |= {f"more_{part}": value for part, value in vars(change).items()}
    counted = connection.execute(_COUNT, row).first()
    if counted is None:
        zero = {"used_micro_usd": 0, "reserved_micro_usd": 0, "unpriced": 0}
        insert_once(connection, tenant_spend, {**name._asdict(), **zero})
        counted = connection.execute(_COUNT, row).one()
    return Spend(*counted)
