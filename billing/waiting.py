"""Runs whose bill is not final: held until somebody settles it, or estimated. Nothing is written here."""

from datetime import datetime

from sqlalchemy import RowMapping, select

from billing.database import Database
from billing.tables import ledger_entries
from contracts.base import Contract
from contracts.billing import BillingState
from contracts.money import Usd, format_usd

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
    """A run that waits. `waiting_since` is when its bill was written, `amount_usd` the estimate, null for what is held.

    `usage_is_kept` tells that the provider reported a usage: then a price may be all that is missing. Without,
    it waits for the usage itself.
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
    """Runs on hold, the oldest first, at most `limit` of them; with `estimates` the estimated ones too."""
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
