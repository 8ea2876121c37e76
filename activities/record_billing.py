"""`record_billing`: the run's amount into the ledger, once, with the results and raw usage of the attempt that was paid.

The amount is worked out here. The cost that a workflow hands over was made by `compute_cost`, or by anybody who can start
a workflow.
"""

import asyncio

import structlog
from temporalio import activity

from activities.errors import translate_errors
from gpt_image_runs.billing.ledger.ledger import Ledger
from gpt_image_runs.billing.pricing.rate_cards import RateCards
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.billing import BillingInput, BillingRecord

log = structlog.get_logger("record_billing")


class BillingRecorder:
    """Writes bills into one ledger, priced by the cards that the worker was started with."""

    def __init__(self, ledger: Ledger, cards: RateCards) -> None:
        self._ledger = ledger
        self._cards = cards

    @activity.defn(name=names.RECORD_BILLING)
    async def record_billing(self, order: BillingInput) -> BillingRecord:
        """The run's entry: made now, or found where an earlier attempt or an earlier run has made it.

        Raises:
            LedgerUnavailable: the database does not answer; Temporal tries again until it does.
            AttemptMissing: the ledger does not have the attempt; after a restore, `starter.py recover` takes it back.
            LedgerRefused: the run has no such attempt that was paid; it waits, visibly, until that is mended.
            RunConflict: the run belongs to another workflow; not tried again.
        """
        workflow_id = activity.info().workflow_id
        with translate_errors():
            record = await asyncio.to_thread(self._ledger.bill, order, self._cards, workflow_id=workflow_id)
        if record.cost is not None:
            # Billed before, priced by newer cards than those of `compute_cost`, or somebody made the cost up.
            log.warning(
                "handed_cost_ignored",
                run_id=order.run_id,
                handed_usd=order.cost.amount_usd,
                recorded_usd=record.cost.amount_usd,
            )
        return record
