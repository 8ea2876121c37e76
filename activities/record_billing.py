"""The activity `record_billing`: write a run's bill into the ledger, once.

The amount is computed again here: the cost that a workflow passes in may come from anybody who can start a workflow.
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
    """Writes bills into one ledger, priced by the rate cards that the worker was started with."""

    def __init__(self, ledger: Ledger, cards: RateCards) -> None:
        self._ledger = ledger
        self._cards = cards

    @activity.defn(name=names.RECORD_BILLING)
    async def record_billing(self, billing_input: BillingInput) -> BillingRecord:
        """Write the run's entry, or find it if an earlier attempt or an earlier execution has written it.

        Raises:
            LedgerUnavailable: the database does not answer; retried until it does.
            AttemptMissing: the ledger does not have the attempt; after a restore, `starter.py recover` restores it.
            LedgerRefused: the run has no such paid attempt; retried until an operator has repaired the ledger.
            RunConflict: the run belongs to another workflow; not retried.
        """
        workflow_id = activity.info().workflow_id
        with translate_errors():
            record = await asyncio.to_thread(
                self._ledger.bill, billing_input, self._cards, workflow_id=workflow_id
            )
        if record.cost is not None:
            # The run was billed before, or by newer rate cards than those of `compute_cost`, or the cost was made up.
            log.warning(
                "handed_cost_ignored",
                run_id=billing_input.run_id,
                handed_usd=billing_input.cost.amount_usd,
                recorded_usd=record.cost.amount_usd,
            )
        return record
