"""The attempts of a day as a comparison with the provider's books needs them: when, what became of them, at what list price.

Only reads. What the comparison makes of them is `billing.comparison`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, RowMapping, select

from billing import flags
from billing.attempt_records import Outcome
from billing.database import Database
from billing.tables import ledger_entries, provider_attempts

_OF_THE_ATTEMPT = provider_attempts.c[
    "attempt_id", "run_id", "model", "outcome", "sent_at", "finished_at", "reserved_micro_usd"
]
_OF_THE_ENTRY = ledger_entries.c["attempt_id", "kind", "basis", "flags", "list_cost_micro_usd", "image_count"]


@dataclass(frozen=True, kw_only=True)
class ComparedAttempt:
    """One request that was sent. `list_cost_micro_usd` is what its entries say together, None where they do not know it.

    `exact` tells a list cost by tokens that the provider has reported in full from one that had to assume something.
    """

    attempt_id: str
    run_id: str
    model: str
    outcome: Outcome
    sent_at: datetime
    finished_at: datetime | None
    reserved_micro_usd: int | None
    billed: bool = False
    list_cost_micro_usd: int | None = None
    exact: bool = False
    images: int = 0


def list_compared_attempts(
    database: Database, provider: str, since: datetime, until: datetime
) -> tuple[ComparedAttempt, ...]:
    """What was sent to a provider from `since` until before `until`, in that order.

    What was certainly never sent is left out. A reversal gives a customer money back, and the provider none: it does not count.
    """
    sent: list[ColumnElement[bool]] = [
        provider_attempts.c.provider == provider,
        provider_attempts.c.sent_at >= since,
        provider_attempts.c.sent_at < until,
        provider_attempts.c.outcome != "not_sent",
    ]
    attempts = select(*_OF_THE_ATTEMPT).where(*sent).order_by(provider_attempts.c.sent_at)
    entries = (
        select(*_OF_THE_ENTRY)
        .join_from(ledger_entries, provider_attempts)
        .where(*sent, ledger_entries.c.kind != "reversal")
        .order_by(ledger_entries.c.sequence)
    )
    by_attempt: dict[str, list[RowMapping]] = {}
    with database.reading() as connection:
        for entry in connection.execute(entries).mappings():
            by_attempt.setdefault(entry["attempt_id"], []).append(entry)
        rows = connection.execute(attempts).mappings().all()
    return tuple(_read_attempt(row, by_attempt.get(row["attempt_id"], [])) for row in rows)


def _read_attempt(row: RowMapping, entries: Sequence[RowMapping]) -> ComparedAttempt:
    """An attempt with its entries, the oldest first: a correction holds the difference, and the last one knows best."""
    if not entries:
        return ComparedAttempt(**row)
    last = entries[-1]
    listed = [entry["list_cost_micro_usd"] for entry in entries]
    is_known = last["list_cost_micro_usd"] is not None
    return ComparedAttempt(
        **row,
        billed=True,
        list_cost_micro_usd=sum(amount for amount in listed if amount is not None) if is_known else None,
        exact=last["basis"] == "token_usage" and not {*last["flags"]} - {flags.BATCH_PRICE},
        images=last["image_count"],
    )
