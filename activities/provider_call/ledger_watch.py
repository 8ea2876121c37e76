"""Stop spending while the ledger is older than its image store.

A ledger that was restored from an older copy does not know what was paid since. Its heads are noted in the image store
while a worker runs, so that this is found. Nothing is sent to the provider until an operator has decided how to go on.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from functools import partial

import structlog
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from gpt_image_runs.billing.recovery.notes import (
    count_heads,
    count_lost_entries,
    read_accepted_loss,
    read_ledger_now,
    read_note,
    write_note,
)
from gpt_image_runs.billing.recovery.recovery import find_losses, find_unpaid_runs
from gpt_image_runs.database.engine import Database
from gpt_image_runs.database.errors import LedgerBehind, LedgerError
from gpt_image_runs.images.backend import StoreFailure
from gpt_image_runs.images.store import ImageStore
from gpt_image_runs.temporal.run_evidence import find_billed_runs

log = structlog.get_logger("ledger_watch")


_NOTED_EVERY_SECONDS = 5.0
_COMPARED_EVERY_SECONDS = 10.0
# A server that denies listing runs always will: then only the image store is compared.
_NEVER_LISTED = {RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.UNIMPLEMENTED}
# How many executions that are not trusted a log line names.
_NAMED = 5


class LedgerWatch:
    """Compares a ledger with an image store and with the runs in Temporal. Safe to share between tasks."""

    def __init__(self, database: Database, store: ImageStore, client: Client | None = None) -> None:
        self._database = database
        self._store = store
        self._client = client
        self._noted: tuple[int, int] | None = None
        self._behind: str | None = None
        self._doubtful: tuple[str, ...] = ()

    def refuse_behind(self) -> None:
        """Raise if the ledger was found to be older than its store.

        Raises:
            LedgerBehind: nothing may be sent.
        """
        if self._behind is not None:
            raise LedgerBehind(f"{self._behind} Nothing was sent.")

    async def wait_until_whole(self) -> None:
        """Wait until the ledger has everything that the store knows, or an operator has accepted the loss."""
        while True:
            try:
                await self._compare()
                if self._behind is None:
                    return
            except (LedgerError, StoreFailure, RPCError) as error:
                log.warning("ledger_not_compared", error=str(error))
            await asyncio.sleep(_COMPARED_EVERY_SECONDS)

    @contextlib.asynccontextmanager
    async def noting_heads(self) -> AsyncIterator[None]:
        """Note the ledger's heads in the store while the block runs, and once more at its end."""
        noting = asyncio.create_task(self._note_periodically())
        try:
            yield
        finally:
            noting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await noting
            await self._try_to_note()

    async def note_heads(self) -> None:
        """Note the heads if they have changed. A note that the ledger does not match stays, and stops the spending.

        Raises:
            LedgerUnavailable, StoreUnavailable: the ledger or the store does not answer.
        """
        counted = await asyncio.to_thread(count_heads, self._database)
        if counted == self._noted and self._behind is None:
            return
        now = await asyncio.to_thread(read_ledger_now, self._database)
        note = await read_note(self._store, now.ledger_id)
        accepted = await read_accepted_loss(self._store, now.ledger_id)
        lost = await asyncio.to_thread(count_lost_entries, self._database, note, accepted)
        if not lost and self._behind is None:
            await write_note(self._store, now)
            self._noted = counted
            return
        await self._compare()

    async def _compare(self) -> None:
        losses = await find_losses(self._database, self._store, await self._find_billed_runs())
        before, self._behind = self._behind, losses.describe() if losses else None
        if losses and before != self._behind:
            log.error("ledger_behind", attempts=losses.attempts, entries=losses.entries, why=self._behind)

    async def _find_billed_runs(self) -> Mapping[str, datetime]:
        if self._client is None:
            return {}
        now = await asyncio.to_thread(read_ledger_now, self._database)
        try:
            billed = await find_billed_runs(
                self._client, partial(find_unpaid_runs, self._database), now.sought_ledger
            )
        except RPCError as error:
            if error.status not in _NEVER_LISTED:
                raise  # the ledger is only trusted after a complete comparison
            log.warning("runs_not_listed", error=str(error))
            return {}
        if billed.doubtful != self._doubtful:
            self._doubtful = billed.doubtful
            log.warning("executions_not_believed", count=len(self._doubtful), why=self._doubtful[:_NAMED])
        return billed.proven

    async def _note_periodically(self) -> None:
        while True:
            await self._try_to_note()
            await asyncio.sleep(_NOTED_EVERY_SECONDS)

    async def _try_to_note(self) -> None:
        try:
            await self.note_heads()
        except (LedgerError, StoreFailure, RPCError) as error:
            log.warning("ledger_heads_not_noted", error=str(error))
