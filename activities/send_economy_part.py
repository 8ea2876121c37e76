"""`send_economy_part`: one file up, one batch of the provider created, and never a second one for the same part.

Creating has no idempotency there, so every attempt looks first, by metadata that names the part and an attempt of the ledger
that only this part has.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import structlog
from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from activities.economy_documents import EconomyDocuments, PlannedLine
from activities.economy_file import write_part_file
from activities.failures import describe_provider_failure, known_failures
from activities.heartbeat import heartbeats
from billing.economy_attempts import EconomyAttempts
from contracts import names
from contracts.economy_steps import PartOrder, SentPart
from imaging.batch_client import CREATE_SECONDS, BatchClient
from imaging.batches import NewBatch, ProviderBatch
from imaging.errors import ProviderFailure
from imaging.store import ImageStore

LOOK_AGAIN = timedelta(seconds=20)
"""After a lost reply: the provider's list may be a little behind what it has created."""
CLOCKS_DIFFER = timedelta(hours=1)
"""How far the provider's clock may be behind ours: what was created before the part was claimed is not looked at."""
ALREADY_SENT = "AlreadySent"
TOO_LATE = "TooLate"

log = structlog.get_logger("send_economy_part")


class EconomySender:
    """Sends the parts of economy batches to one provider."""

    def __init__(self, client: BatchClient, store: ImageStore, attempts: EconomyAttempts) -> None:
        self._client = client
        self._store = store
        self._attempts = attempts

    @activity.defn(name=names.SEND_ECONOMY_PART)
    async def send_economy_part(self, order: PartOrder) -> SentPart:
        """The provider's batch of a part: found where it exists, else created.

        Raises:
            ApplicationError: named after the provider's failure; tried again where that may help, and after a lost reply.
            LedgerUnavailable, StoreUnavailable: nothing was sent.
        """
        mark = order.batch.part_mark(order.part.number)
        with known_failures():
            async with heartbeats():
                try:
                    return await self._send(order)
                except ProviderFailure as failure:
                    log.info("A part was not sent.", part=mark, error_type=type(failure).__name__)
                    if failure.outcome == "unknown":
                        raise _look_again(failure) from None
                    if failure.retryable:
                        raise describe_provider_failure(failure) from None
                    return SentPart(reason=str(failure))

    async def _send(self, order: PartOrder) -> SentPart:
        documents = EconomyDocuments(self._store, order.batch)
        await documents.check_part(order.part)
        lines = await documents.read_claimed(order.part.number) or []
        if not lines:
            return SentPart()
        metadata = _describe(order, lines)
        first = await asyncio.to_thread(self._attempts.find, metadata["attempt"])
        batch = await self._client.find(metadata, first.sent_at - CLOCKS_DIFFER)
        if batch is None:
            await asyncio.to_thread(self._refuse_second_batch, order, lines)
            batch = await self._create(order, lines, documents, metadata)
        if batch is None:
            return SentPart()
        log.info("The provider has the part.", part=metadata["part"], provider_batch=batch.batch_id)
        return SentPart(provider_batch_id=batch.batch_id)

    async def _create(
        self,
        order: PartOrder,
        lines: list[PlannedLine],
        documents: EconomyDocuments,
        metadata: dict[str, str],
    ) -> ProviderBatch | None:
        name = f"{order.batch.batch_id}-{order.batch.round}-{order.part.number}.jsonl"
        with TemporaryDirectory(prefix="economy-") as folder:
            path = Path(folder) / "part.jsonl"
            left_out = await write_part_file(path, order, lines, self._store)
            await documents.write_left_out(order.part.number, left_out)
            file_id = None if len(left_out) == len(lines) else await self._client.upload(path, name)
        if file_id is None:
            return None
        _refuse_late_creation()
        return await self._client.create(
            NewBatch(file_id=file_id, endpoint=order.part.endpoint, metadata=metadata)
        )

    def _refuse_second_batch(self, order: PartOrder, lines: list[PlannedLine]) -> None:
        """A part of which lines have outcomes was sent, whether the provider still lists its batch or not."""
        open_attempts = self._attempts.list_open(order.batch.part_mark(order.part.number))
        if len(open_attempts) != len(lines):
            raise ApplicationError(
                f"Part {order.part.number} of the economy batch {order.batch.batch_id} was sent before, and the provider"
                " lists no batch of it any more. Nothing was sent again.",
                type=ALREADY_SENT,
                non_retryable=True,
            )


def _describe(order: PartOrder, lines: list[PlannedLine]) -> dict[str, str]:
    """What a batch is found by. The attempt's id is of this ledger alone: nobody else's batch can have it."""
    return {
        "batch": order.batch.batch_id,
        "part": order.batch.part_mark(order.part.number),
        "digest": order.batch.digest,
        "attempt": lines[0].attempt_id or "",
    }


def _refuse_late_creation() -> None:
    """A worker that was away for so long that another may have taken over leaves the creation to that one."""
    info = activity.info()
    if info.start_to_close_timeout is None:
        return
    left = info.started_time + info.start_to_close_timeout - datetime.now(UTC)
    if left < timedelta(seconds=CREATE_SECONDS):
        raise ApplicationError(
            "There was no time left to create the batch; it is tried again from the start.", type=TOO_LATE
        )


def _look_again(failure: ProviderFailure) -> ApplicationError:
    return ApplicationError(
        f"{failure} The batch is looked for before another is created.",
        type=type(failure).__name__,
        next_retry_delay=LOOK_AGAIN,
        category=ApplicationErrorCategory.BENIGN,
    )
