"""Attempts that were paid and have no entry: their runs were ended between the payment and the bill. Nothing is written here.

What was delivered is kept, with its usage. The run bills it as soon as it goes on, and does not buy it again.
"""

from datetime import datetime, timedelta

from sqlalchemy import RowMapping, select

from billing.database import Database
from billing.ledger import bill_key
from billing.tables import ledger_entries, provider_attempts, runs
from contracts.base import Contract
from contracts.money import Usd, format_usd

LONGEST_BILLING = timedelta(minutes=5)
"""A bill follows its payment within a second; so long takes a ledger that was away for a moment, or a worker that was killed."""

_SHOWN = provider_attempts.c[
    "attempt_id",
    "run_id",
    "number",
    "model",
    "provider",
    "provider_request_id",
    "simulated",
    "sent_at",
    "finished_at",
    "reserved_micro_usd",
]


class UnbilledAttempt(Contract):
    """An attempt that was paid and is on no entry. `reserved_usd` is its worst case, null where no price was known.

    `billed_by` is the entry of its run by another attempt, where there is one: then this one was paid for nothing, and
    nothing will bill it.
    """

    attempt_id: str
    run_id: str
    tenant: str
    number: int
    model: str
    provider: str
    provider_request_id: str | None
    simulated: bool
    sent_at: datetime
    finished_at: datetime
    reserved_usd: Usd | None
    billed_by: str | None


class Unbilled(Contract):
    """Paid attempts without an entry, the oldest first, and those that are so young that they may just be billed."""

    attempts: tuple[UnbilledAttempt, ...]
    in_flight: tuple[UnbilledAttempt, ...]


def find_unbilled(database: Database, now: datetime, *, tenant: str | None = None) -> Unbilled:
    """Every attempt that was paid and is on no entry."""
    attempt, bill = provider_attempts.c, ledger_entries.alias("bill")
    billed = select(ledger_entries.c.sequence).where(ledger_entries.c.attempt_id == attempt.attempt_id)
    query = (
        select(*_SHOWN, runs.c.tenant, bill.c.entry_id.label("billed_by"))
        .join_from(provider_attempts, runs)
        .outerjoin(bill, bill.c.entry_key == attempt.run_id + bill_key(""))
        .where(attempt.outcome == "succeeded", ~billed.exists())
        .order_by(attempt.finished_at, attempt.attempt_id)
    )
    if tenant is not None:
        query = query.where(runs.c.tenant == tenant)
    with database.reading() as connection:
        found = [_view(row) for row in connection.execute(query).mappings()]
    young = {each.attempt_id for each in found if now - each.finished_at <= LONGEST_BILLING}
    return Unbilled(
        attempts=tuple(each for each in found if each.attempt_id not in young),
        in_flight=tuple(each for each in found if each.attempt_id in young),
    )


def _view(row: RowMapping) -> UnbilledAttempt:
    reserved = row["reserved_micro_usd"]
    return UnbilledAttempt(**row, reserved_usd=None if reserved is None else format_usd(reserved))
