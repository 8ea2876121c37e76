"""Bills that were written at a moment of the test's choice, and their corrections. No test here."""

from datetime import UTC, datetime
from typing import Any

from gpt_image_runs.billing.ledger.heads import append_entry
from gpt_image_runs.billing.ledger.ledger import Ledger
from gpt_image_runs.contracts.billing import Cost
from gpt_image_runs.database.engine import Database
from gpt_image_runs.database.tables import ledger_entries
from tests.support.ledger.ledger_examples import CHARGE, identify, make_order, pay_attempt

MONDAY = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


class DatedBills:
    """Records runs of their own in a ledger, each at its moment."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._moments = [MONDAY]
        self._ledger = Ledger(database, clock=lambda: self._moments[-1])

    def __call__(
        self,
        request: str,
        cost: Cost = CHARGE,
        *,
        tenant: str = "acme",
        at: datetime = MONDAY,
        **paid: Any,
    ) -> str:
        """Bill a run and return the id of its entry."""
        self._moments.append(at)
        attempt = pay_attempt(self._database, identify(tenant, request), **paid)
        return self._ledger.record(make_order(attempt, cost)).entry_id


def correct(
    database: Database, corrected: str, amount_micro_usd: int, at: datetime = MONDAY, **columns: Any
) -> None:
    """Write the adjustment of an entry, as a reconciliation would."""
    with database.writing() as connection:
        entry = ledger_entries.select().where(ledger_entries.c.entry_id == corrected)
        row: dict[str, Any] = dict(connection.execute(entry).mappings().one())
        del row["sequence"]
        row |= {
            "entry_id": f"{corrected}_adjusted",
            "entry_key": f"{corrected}_adjusted",
            "kind": "adjustment",
        }
        row |= {"amount_micro_usd": amount_micro_usd, "corrects": corrected, "created_at": at}
        row |= {"list_cost_micro_usd": None, **columns}
        assert append_entry(connection, row)
