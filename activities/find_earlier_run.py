"""`find_earlier_run`: what the ledger knows of a run that may start. Reads, and writes nothing."""

import asyncio

from temporalio import activity

from activities.failures import known_failures
from billing.database import Database
from billing.earlier_runs import find_earlier_run
from billing.runs import RunIdentity
from contracts import names
from contracts.submissions import EarlierRun, EarlierRunInput


class EarlierRunFinder:
    """Looks into one ledger."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @activity.defn(name=names.FIND_EARLIER_RUN)
    async def find_earlier_run(self, order: EarlierRunInput) -> EarlierRun:
        """Whether the run's request id stands for other content, and whether it was paid.

        Raises:
            LedgerUnavailable: the database does not answer; Temporal tries again until it does.
        """
        with known_failures():
            return await asyncio.to_thread(
                find_earlier_run, self._database, RunIdentity(**order.model_dump())
            )
