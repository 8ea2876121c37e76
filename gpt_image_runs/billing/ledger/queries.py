"""Read where bills stand today, corrections included: bills of runs, runs that wait, paid attempts without a bill."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import RowMapping, select

from gpt_image_runs.billing.ledger.ledger import bill_key, state_of_kind
from gpt_image_runs.contracts.base import Contract
from gpt_image_runs.contracts.billing import BillingState
from gpt_image_runs.contracts.money import Usd, format_usd
from gpt_image_runs.database.engine import Database
from gpt_image_runs.database.tables import ledger_entries, provider_attempts, runs

_PAGE = 500


class RunBill(NamedTuple):
    """A run's bill. `amount_usd` is what is owed, None while it is not known."""

    state: BillingState
    amount_usd: str | None


def find_bills(database: Database, run_ids: Sequence[str]) -> dict[str, RunBill]:
    """Return the bills of those runs that have one, by run id."""
    entry = ledger_entries.c
    columns = entry["run_id", "kind", "amount_micro_usd"]
    bills: dict[str, RunBill] = {}
    owed: dict[str, int] = {}
    with database.reading() as connection:
        for start in range(0, len(run_ids), _PAGE):
            some = entry.run_id.in_(run_ids[start : start + _PAGE])
            for run_id, kind, amount in connection.execute(
                select(*columns).where(some).order_by(entry.sequence)
            ):
                if amount is not None:
                    owed[run_id] = owed.get(run_id, 0) + amount
                known = owed.get(run_id)
                bills[run_id] = RunBill(state_of_kind(kind), None if known is None else format_usd(known))
    return bills


_SHOWN = ledger_entries.c[
    "run_id",
    "tenant",
    "model",
    "provider",
    "provider_request_id",
    "simulated",
    "image_count",
    "entry_id",
    "reason",
    "sent_at",
]


class WaitingRun(Contract):
    """A run whose bill is not final. `waiting_since` is when the bill was written.

    `amount_usd` is the estimate, null for a hold. `usage_is_kept`: the provider reported a usage, so only a price may be
    missing. Without it, the run waits for the usage itself.
    """

    run_id: str
    tenant: str
    model: str
    provider: str
    provider_request_id: str | None
    simulated: bool
    image_count: int
    entry_id: str
    state: BillingState
    amount_usd: Usd | None
    usage_is_kept: bool
    reason: str | None
    sent_at: datetime
    waiting_since: datetime


def list_waiting(
    database: Database, *, tenant: str | None = None, estimates: bool = False, limit: int | None = None
) -> tuple[WaitingRun, ...]:
    """List runs on hold, oldest first, at most `limit`; with `estimates` also estimated ones."""
    entry, correction = ledger_entries.c, ledger_entries.alias()
    corrected = select(correction.c.sequence).where(correction.c.corrects == entry.entry_id).exists()
    kinds = ("hold", "estimate") if estimates else ("hold",)
    query = (
        # Not the usage itself: a provider may have answered with megabytes.
        select(
            *_SHOWN,
            entry.kind,
            entry.amount_micro_usd,
            entry.created_at.label("waiting_since"),
            entry.usage.is_not(None).label("usage_is_kept"),
        )
        .where(entry.kind.in_(kinds), ~corrected)
        .order_by(entry.sequence)
        .limit(limit)
    )
    if tenant is not None:
        query = query.where(entry.tenant == tenant)
    with database.reading() as connection:
        return tuple(_view(row) for row in connection.execute(query).mappings())


def _view(row: RowMapping) -> WaitingRun:
    amount = row["amount_micro_usd"]
    return WaitingRun(
        **row,
        state="pending" if row["kind"] == "hold" else "estimated",
        amount_usd=None if amount is None else format_usd(amount),
    )


# A bill follows its payment within a second, or within minutes where the ledger was unavailable or a worker was killed.
MAX_BILLING = timedelta(minutes=5)

_SHOWN_UNBILLED = provider_attempts.c[
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
    """A paid attempt that no entry bills. `reserved_usd` is its worst case, null where no price was known.

    `billed_by` is the entry of its run by another attempt, where there is one: then this attempt was paid for nothing, and
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
    """Paid attempts without an entry, oldest first; those `in_flight` are young enough to be billed any moment."""

    attempts: tuple[UnbilledAttempt, ...]
    in_flight: tuple[UnbilledAttempt, ...]


def find_unbilled(database: Database, now: datetime, *, tenant: str | None = None) -> Unbilled:
    """Find every attempt that was paid and has no entry."""
    attempt, bill = provider_attempts.c, ledger_entries.alias("bill")
    billed = select(ledger_entries.c.sequence).where(ledger_entries.c.attempt_id == attempt.attempt_id)
    query = (
        select(*_SHOWN_UNBILLED, runs.c.tenant, bill.c.entry_id.label("billed_by"))
        .join_from(provider_attempts, runs)
        .outerjoin(bill, bill.c.entry_key == attempt.run_id + bill_key(""))
        .where(attempt.outcome == "succeeded", ~billed.exists())
        .order_by(attempt.finished_at, attempt.attempt_id)
    )
    if tenant is not None:
        query = query.where(runs.c.tenant == tenant)
    with database.reading() as connection:
        found = [_unbilled_view(row) for row in connection.execute(query).mappings()]
    young = {each.attempt_id for each in found if now - each.finished_at <= MAX_BILLING}
    return Unbilled(
        attempts=tuple(each for each in found if each.attempt_id not in young),
        in_flight=tuple(each for each in found if each.attempt_id in young),
    )


def _unbilled_view(row: RowMapping) -> UnbilledAttempt:
    reserved = row["reserved_micro_usd"]
    return UnbilledAttempt(**row, reserved_usd=None if reserved is None else format_usd(reserved))
