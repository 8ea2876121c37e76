"""`record_billing`: the run's amount into the ledger, once, with the results and raw usage of the attempt that was paid."""

import asyncio

from temporalio import activity

from activities.failures import known_failures
from billing.ledger import Ledger
from contracts import names
from contracts.billing import BillingInput, BillingRecord


class BillingRecorder:
    """Writes bills into one ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    @activity.defn(name=names.RECORD_BILLING)
    async def record_billing(self, order: BillingInput) -> BillingRecord:
        """The run's entry: made now, or found where an earlier attempt or an earlier run has made it.

        Raises:
            LedgerUnavailable: the database does not answer; Temporal tries again until it does.
            LedgerRefused: the run has no such attempt that was paid; it waits, visibly, until that is mended.
        """
        with known_failures():
            return await asyncio.to_thread(self._ledger.record, order)
