"""Where the bills of some runs stand today, corrections included. Nothing is written here."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import select

from billing.database import Database
from billing.ledger import state_of_kind
from billing.tables import ledger_entries
from contracts.billing import BillingState
from contracts.money import format_usd

_PAGE = 500


class RunBill(NamedTuple):
    """A run's bill. `amount_usd` is what is owed, None while that is not known."""

    state: BillingState
    amount_usd: str | None


def find_bills(database: Database, run_ids: Sequence[str]) -> dict[str, RunBill]:
    """The bills of those of the runs that have one."""
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
