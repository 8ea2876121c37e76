"""Receipts: what came of an attempt, kept in the image store beside the pictures.

A worker that dies between the answer and its record, a ledger that is away at that moment, and a ledger that was restored
from an older copy lose nothing: the next attempt of the run finds the receipt, and what was paid is not paid again.
"""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Collection, Mapping

import structlog
from pydantic import TypeAdapter, ValidationError

from billing.attempt_receipts import (
    AttemptReceipt,
    build_receipt,
    list_receipts_of_run,
    mark_ledger,
    read_attempt_receipts,
    write_attempt_receipt,
)
from billing.attempt_records import Attempt, AttemptOutcome
from billing.attempts import AttemptLog
from billing.errors import RunConflict
from billing.recovery import restore_attempt
from billing.runs import RunIdentity, is_same
from contracts.images import ImageRef
from contracts.request import ImageRequest
from imaging.store import ImageStore
from imaging.store_errors import StoreUnavailable

# Real pictures take longer and have their receipt while they are made; what is answered sooner has one write, at its end.
_NOTED_AFTER_SECONDS = 5.0

log = structlog.get_logger("receipts")

_OUTCOME = TypeAdapter(AttemptOutcome)
_IMAGES = TypeAdapter(tuple[ImageRef, ...])


class AttemptReceipts:
    """The receipts of one ledger's attempts in one store. Safe to share between tasks."""

    def __init__(self, store: ImageStore, attempts: AttemptLog, *, simulated: bool) -> None:
        self._store = store
        self._attempts = attempts
        self._simulated = simulated
        self._ledger_id: str | None = None

    async def write(
        self,
        run: RunIdentity,
        attempt: Attempt,
        outcome: AttemptOutcome | None,
        request: ImageRequest | None = None,
    ) -> None:
        """Write an attempt's receipt. Where the store is away, the ledger alone has to hold the outcome."""
        try:
            ledger_id = await self._read_ledger_id()
            await write_attempt_receipt(self._store, build_receipt(ledger_id, run, attempt, outcome, request))
        except (StoreUnavailable, ValueError, RecursionError) as error:
            log.warning("No receipt was kept.", attempt_id=attempt.attempt_id, error=str(error))

    @contextlib.asynccontextmanager
    async def noting_open_attempt(
        self, run: RunIdentity, attempt: Attempt, request: ImageRequest
    ) -> AsyncIterator[None]:
        """Write a receipt without an outcome if the block takes long: its worker may die and its ledger may be lost."""
        ended = asyncio.Event()

        async def note() -> None:
            try:
                await asyncio.wait_for(ended.wait(), _NOTED_AFTER_SECONDS)
            except TimeoutError:
                await self.write(run, attempt, None, request)

        noting = asyncio.create_task(note())
        try:
            yield
        finally:
            ended.set()
            # Not cancelled: a write that goes on would take the place of the receipt with the outcome.
            await noting

    async def read_outcomes(self, run_id: str, attempt_ids: Collection[str]) -> Mapping[str, AttemptOutcome]:
        """Read the outcomes of attempts that the ledger does not know, by attempt."""
        names = [
            name for name in await list_receipts_of_run(self._store, run_id) if name.attempt_id in attempt_ids
        ]
        found: dict[str, AttemptOutcome] = {}
        async for receipt in read_attempt_receipts(self._store, names):
            if receipt and receipt.outcome:
                found[receipt.attempt.attempt_id] = receipt.outcome
        for attempt_id in attempt_ids:
            if attempt_id not in found or found[attempt_id].outcome == "unknown":
                old = await _read_old_receipt(self._store, attempt_id)
                found |= {attempt_id: old} if old else {}
        return found

    async def take_back(self, run: RunIdentity, known: Collection[str] = ()) -> bool:
        """Write attempts of a run into the ledger that only the store knows. Returns whether there were any.

        Also those of another ledger, where they are of the same content: a ledger that was lost has no other successor.

        Raises:
            LedgerUnavailable, StoreUnavailable: nothing may be sent before this is known.
        """
        names = [
            name
            for name in await list_receipts_of_run(self._store, run.run_id)
            if name.attempt_id not in known
        ]
        if not names:
            return False
        own, taken = mark_ledger(await self._read_ledger_id()), False
        async for receipt in read_attempt_receipts(self._store, names):
            if receipt is None:
                log.error("A receipt cannot be read.", run_id=run.run_id)
            elif mark_ledger(receipt.ledger_id) == own or self._is_own_content(receipt, run):
                taken |= await self._restore(receipt)
        return taken

    def _is_own_content(self, receipt: AttemptReceipt, run: RunIdentity) -> bool:
        """A demo that used the same store is no reason not to make the real picture."""
        return is_same(receipt.run, run) and receipt.attempt.simulated == self._simulated

    async def _restore(self, receipt: AttemptReceipt) -> bool:
        facts = {"run_id": receipt.run.run_id, "attempt_id": receipt.attempt.attempt_id}
        try:
            restored = await asyncio.to_thread(restore_attempt, self._attempts.database, receipt)
        except RunConflict as conflict:
            log.warning("A lost attempt cannot be taken back.", **facts, error=str(conflict))
            return False
        if restored:
            log.warning("A lost attempt was taken back from the image store.", **facts)
        return restored

    async def _read_ledger_id(self) -> str:
        if self._ledger_id is None:
            self._ledger_id = await asyncio.to_thread(self._attempts.read_ledger_id)
        return self._ledger_id


async def _read_old_receipt(store: ImageStore, attempt_id: str) -> AttemptOutcome | None:
    """Read a receipt as versions before the receipts by run wrote it: the outcome alone, by its attempt."""
    receipt = await store.read_document(f"receipts/{attempt_id}.json")
    try:
        return None if receipt is None else _OUTCOME.validate_json(receipt)
    except ValidationError:
        return None


async def add_recovered_pictures(paid: Attempt, store: ImageStore) -> Attempt:
    """Return a paid attempt with the pictures that the command `recover` has found in its kept answer since."""
    kept = await store.read_document(f"recovered/{paid.attempt_id}.json") if paid.error_message else None
    if kept is None:
        return paid
    images = tuple(image.model_dump(mode="json") for image in _IMAGES.validate_json(kept))
    return dataclasses.replace(paid, images=images, error_message=None)
