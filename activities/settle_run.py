"""`settle_run`: one correction of a run's bill into the ledger, once."""

import asyncio

from temporalio import activity

from activities.failures import known_failures
from billing.corrections import Corrections
from contracts import names
from contracts.corrections import Correction, Settlement


class RunSettler:
    """Corrects bills in one ledger."""

    def __init__(self, corrections: Corrections) -> None:
        self._corrections = corrections

    @activity.defn(name=names.SETTLE_RUN)
    async def settle_run(self, order: Correction) -> Settlement:
        """The correction's entry: made now, or found where it was made before.

        Raises:
            LedgerUnavailable: the database does not answer; Temporal tries again until it does.
            CorrectionRefused: the correction would not be true; not tried again.
        """
        with known_failures():
            return await asyncio.to_thread(self._corrections.settle, order)
