"""`send_economy_part`: upload one file and create one batch at the provider, never a second one for the same part.

Creating a batch is not idempotent at the provider, so every attempt first searches for it, by metadata that name the part and
an attempt that only this part of this ledger has.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import structlog
from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from activities.batches.pages import BatchPages
from activities.economy.documents import EconomyDocuments, PassedLine, PlannedLine
from activities.errors import to_application_error, translate_errors
from activities.heartbeats import heartbeats
from gpt_image_runs.batches.economy import EconomyAttempts
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.batches import BATCH_ID_PATTERN
from gpt_image_runs.contracts.economy import (
    EconomyBatchRef,
    LookOrder,
    PartOrder,
    SeenBatch,
    SeenBatches,
    SentPart,
)
from gpt_image_runs.contracts.request import ImageRequest
from gpt_image_runs.images.input_memory import ByteBudget, hold_inputs
from gpt_image_runs.images.inputs import InputsRefused
from gpt_image_runs.images.ownership import PictureOwners
from gpt_image_runs.images.store import ImageStore
from gpt_image_runs.provider.batch_api import CREATE_SECONDS, BatchClient, NewBatch, ProviderBatch
from gpt_image_runs.provider.batch_files import write_request_line
from gpt_image_runs.provider.errors import ObjectGone, ProviderFailure

log = structlog.get_logger("send_economy_part")


# Nobody waits for a part. Calls, which somebody may wait for, free the memory within seconds.
_PATIENCE_SECONDS = 600.0


async def write_part_file(
    path: Path,
    order: PartOrder,
    lines: list[PlannedLine],
    store: ImageStore,
    *,
    owners: PictureOwners,
    budget: ByteBudget,
) -> list[PassedLine]:
    """Write the claimed lines of a part into a file, and return those left out.

    A line is left out if its input images are not valid any more.

    Raises:
        StoreUnavailable: a page or an image cannot be read now.
        InputMemoryFull: the input images of calls leave no memory for those of a line.
    """
    pages = BatchPages(store, order.batch.batch_id, order.batch.digest)
    left_out: list[PassedLine] = []
    with path.open("wb") as file:
        for line in lines:
            kept = await pages.find(line.page, line.line)
            request = ImageRequest.model_validate(kept.request)
            try:
                held = await hold_inputs(request, owners.store_of(line.tenant), budget, _PATIENCE_SECONDS)
            except InputsRefused as refused:
                left_out.append(
                    PassedLine(line=line.line, run_id=line.run_id, state="left_out", reason=str(refused))
                )
                continue
            try:
                data = await asyncio.to_thread(
                    write_request_line, line.run_id, request, order.part.model, held.hand_over()
                )
            finally:
                held.release()
            file.write(data)
    return left_out


# After a lost response: the provider's list of batches may be a little behind.
LOOK_AGAIN = timedelta(seconds=20)
# How far the clocks of the provider's machines may differ. The search covers batches from that long before the newest one that
# existed when this part was first sent.
CLOCKS_DIFFER = timedelta(hours=1)
ALREADY_SENT = "AlreadySent"
TOO_LATE = "TooLate"


def read_seconds_since_boot() -> float:
    """Read a monotonic clock in seconds, which includes sleep where the system has one."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class EconomySender:
    """Sends the parts of economy batches to one provider.

    `clock` is monotonic, in seconds. `input_memory` is shared with the calls of this worker.
    """

    def __init__(
        self,
        client: BatchClient,
        store: ImageStore,
        attempts: EconomyAttempts,
        owners: PictureOwners,
        *,
        input_memory: ByteBudget,
        refuse_behind: Callable[[], None] | None = None,
        clock: Callable[[], float] = read_seconds_since_boot,
    ) -> None:
        self._owners = owners
        self._refuse_behind = refuse_behind
        self._client = client
        self._store = store
        self._attempts = attempts
        self._input_memory = input_memory
        self._clock = clock

    @activity.defn(name=names.SEND_ECONOMY_PART)
    async def send_economy_part(self, order: PartOrder) -> SentPart:
        """Find the provider's batch of a part, or create it.

        Raises:
            ApplicationError: named after the provider's failure; retried where that may help, and after a lost response.
            LedgerUnavailable, StoreUnavailable: nothing was sent.
        """
        mark = order.batch.part_mark(order.part.number)
        documents = EconomyDocuments(self._store, order.batch)
        with translate_errors():
            async with heartbeats():
                try:
                    return await self._send(order, documents)
                except ProviderFailure as failure:
                    log.info("economy_part_not_sent", part=mark, error_type=type(failure).__name__)
                    if failure.outcome == "unknown":
                        raise _lost_response_error(failure) from None
                    if failure.retryable:
                        raise to_application_error(failure) from None
                    refused = SentPart(reason=str(failure))
                    await documents.write_sent(order.part.number, refused)
                    return refused

    async def _send(self, order: PartOrder, documents: EconomyDocuments) -> SentPart:
        started = self._clock()
        await documents.check_part(order.part)
        lines = await documents.read_claimed(order.part.number) or []
        if not lines:
            return SentPart()
        metadata = _build_metadata(order, lines)
        first = await asyncio.to_thread(self._attempts.find, metadata["attempt"])
        batch = await self._find(documents, order.part.number, first.sent_at, metadata)
        if batch is None:
            if self._refuse_behind:
                self._refuse_behind()
            await asyncio.to_thread(self._check_not_sent, order, lines)
            batch = await self._create(order, lines, documents, metadata, started)
        if batch is None:
            return SentPart()
        log.info("economy_part_sent", part=metadata["part"], provider_batch=batch.batch_id)
        return SentPart(provider_batch_id=batch.batch_id)

    async def _create(
        self,
        order: PartOrder,
        lines: list[PlannedLine],
        documents: EconomyDocuments,
        metadata: dict[str, str],
        started: float,
    ) -> ProviderBatch | None:
        name = f"{order.batch.batch_id}-{order.batch.round}-{order.part.number}.jsonl"
        with TemporaryDirectory(prefix="economy-") as folder:
            path = Path(folder) / "part.jsonl"
            left_out = await write_part_file(
                path, order, lines, self._store, owners=self._owners, budget=self._input_memory
            )
            await documents.write_left_out(order.part.number, left_out)
            file_id = None if len(left_out) == len(lines) else await self._client.upload(path, name)
        if file_id is None:
            return None
        _check_time_left(self._clock() - started)
        if await documents.find_refusal(order.part.number) is not None:
            # Noted by an attempt whose worker ended before it could report it. From now on there may be a batch.
            await documents.write_sent(order.part.number, SentPart())
        return await self._client.create(
            NewBatch(file_id=file_id, endpoint=order.part.endpoint, metadata=metadata)
        )

    async def _find(
        self, documents: EconomyDocuments, number: int, claimed_at: datetime, metadata: dict[str, str]
    ) -> ProviderBatch | None:
        """Find the part's batch at the provider.

        Raises:
            ApplicationError: the search failed, and an earlier attempt may have created the batch.
            ProviderFailure: the search failed, and nothing was created yet.
        """
        is_first = await documents.read_newest_before(number) is None
        try:
            not_before = await self._find_oldest_possible(documents, number, claimed_at)
            return await self._client.find(metadata, not_before)
        except ProviderFailure as failure:
            if is_first:
                raise
            raise to_application_error(failure, patient=True) from None

    async def _find_oldest_possible(
        self, documents: EconomyDocuments, number: int, claimed_at: datetime
    ) -> datetime:
        """Find the earliest time at which the provider can have created the part's batch.

        The clock of the worker that claimed the part is not used: if it was a day ahead, an existing batch would not be found
        and the whole part would be paid twice.
        """
        newest = await documents.read_newest_before(number)
        if newest is None:
            newest = await self._client.find_newest() or 0
            await documents.write_newest_before(number, newest)
        # In a restored store the note may be newer than the batch.
        return min(datetime.fromtimestamp(newest, UTC), claimed_at) - CLOCKS_DIFFER

    def _check_not_sent(self, order: PartOrder, lines: list[PlannedLine]) -> None:
        """Check that all lines are open: a part with outcomes was sent before."""
        open_attempts = self._attempts.list_open(order.batch.part_mark(order.part.number))
        if len(open_attempts) != len(lines):
            raise ApplicationError(
                f"Part {order.part.number} of the economy batch {order.batch.batch_id} was sent before, and the provider"
                " lists no batch of it any more. Nothing was sent again.",
                type=ALREADY_SENT,
                non_retryable=True,
            )


def _build_metadata(order: PartOrder, lines: list[PlannedLine]) -> dict[str, str]:
    """Build the metadata that a batch is found by. No other ledger has the attempt's id."""
    return {
        "batch": order.batch.batch_id,
        "part": order.batch.part_mark(order.part.number),
        "digest": order.batch.digest,
        "attempt": lines[0].attempt_id or "",
    }


def _check_time_left(took_seconds: float) -> None:
    """Check that there is time left to create the batch.

    Otherwise another worker may have taken over, and creates it. Only this worker's clock is used, as the server's may differ
    from it by any amount.
    """
    allowed = activity.info().start_to_close_timeout
    if allowed is None:
        return
    if allowed.total_seconds() - took_seconds < CREATE_SECONDS:
        raise ApplicationError(
            "There was no time left to create the batch; the activity is retried.", type=TOO_LATE
        )


def _lost_response_error(failure: ProviderFailure) -> ApplicationError:
    return ApplicationError(
        f"{failure} The next attempt searches for the batch before it creates one.",
        type=type(failure).__name__,
        next_retry_delay=LOOK_AGAIN,
        category=ApplicationErrorCategory.BENIGN,
    )


GONE = "gone"
_DIGEST = r"[0-9a-f]{64}"


class EconomyWatcher:
    """Polls and cancels batches of one provider, and notes in the store how those of this ledger ended."""

    def __init__(self, client: BatchClient, store: ImageStore) -> None:
        self._client = client
        self._store = store

    @activity.defn(name=names.LOOK_AT_ECONOMY_PARTS)
    async def look_at_economy_parts(self, order: LookOrder) -> SeenBatches:
        """Poll batches of the provider and return their states.

        Raises:
            ApplicationError: the provider's failure; retried, as polling costs nothing.
            StoreUnavailable: retried; a part is closed by what is noted here.
        """
        return await _call_each(order, self._poll)

    async def _poll(self, batch_id: str) -> ProviderBatch:
        batch = await self._client.look(batch_id)
        if batch.has_ended:
            await self._note_end(batch)
        return batch

    async def _note_end(self, batch: ProviderBatch) -> None:
        part = _find_part(batch)
        if part is None:
            log.warning("foreign_batch_ignored", provider_batch=batch.batch_id)
            return
        documents = EconomyDocuments(self._store, part.batch)
        claimed = await documents.read_claimed(part.number)
        # Another ledger may have a part of the same name, but not the attempt.
        if claimed and claimed[0].attempt_id == batch.metadata.get("attempt"):
            await documents.write_ended(part.number, _seen_batch(batch))

    @activity.defn(name=names.CANCEL_ECONOMY_PARTS)
    async def cancel_economy_parts(self, order: LookOrder) -> SeenBatches:
        """Cancel batches of the provider. Raises as for polling.

        Lines done by then are charged and saved.
        """
        return await _call_each(order, self._client.cancel)


async def _call_each(order: LookOrder, call: Callable[[str], Awaitable[ProviderBatch]]) -> SeenBatches:
    with translate_errors():
        try:
            async with heartbeats():  # hundreds of parts take longer than a heartbeat may be missed
                seen = [await _see(batch_id, call) for batch_id in order.provider_batch_ids]
        except ProviderFailure as failure:
            raise to_application_error(failure, patient=True) from None
    return SeenBatches(batches=tuple(seen))


async def _see(batch_id: str, call: Callable[[str], Awaitable[ProviderBatch]]) -> SeenBatch:
    try:
        batch = await call(batch_id)
    except ObjectGone as gone:
        return SeenBatch(provider_batch_id=batch_id, status=GONE, has_ended=True, reason=str(gone))
    return _seen_batch(batch)


class _PartName(NamedTuple):
    batch: EconomyBatchRef
    number: int


def _find_part(batch: ProviderBatch) -> _PartName | None:
    """Find the part that a batch was created for, None where its metadata do not name one."""
    batch_id, digest, mark = (batch.metadata.get(name, "") for name in ("batch", "digest", "part"))
    _, _, place = mark.partition(f"{batch_id}/{digest[:12]}/")
    found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", place, re.ASCII)
    if not found or not re.fullmatch(BATCH_ID_PATTERN, batch_id) or not re.fullmatch(_DIGEST, digest):
        return None
    ref = EconomyBatchRef(batch_id=batch_id, digest=digest, round=int(found[1]))
    name = _PartName(ref, int(found[2]))
    return name if ref.part_mark(name.number) == mark else None


def _seen_batch(batch: ProviderBatch) -> SeenBatch:
    return SeenBatch(
        provider_batch_id=batch.batch_id,
        status=batch.status,
        has_ended=batch.has_ended,
        completed=batch.completed,
        failed=batch.failed,
        output_file_id=batch.output_file_id,
        error_file_id=batch.error_file_id,
        reason="; ".join(batch.errors) or None,
        untouched=batch.not_started,
    )
