"""`look_at_economy_parts` and `cancel_economy_parts`: short visits to the provider's batches. Nobody waits here."""

from collections.abc import Awaitable, Callable

from temporalio import activity

from activities.failures import describe_provider_failure, known_failures
from activities.heartbeat import heartbeats
from contracts import names
from contracts.economy_steps import LookOrder, SeenBatch, SeenBatches
from imaging.batch_client import BatchClient
from imaging.batches import ProviderBatch
from imaging.errors import ObjectGone, ProviderFailure

GONE = "gone"


class EconomyWatcher:
    """Looks at batches of one provider."""

    def __init__(self, client: BatchClient) -> None:
        self._client = client

    @activity.defn(name=names.LOOK_AT_ECONOMY_PARTS)
    async def look_at_economy_parts(self, order: LookOrder) -> SeenBatches:
        """The batches as they stand.

        Raises:
            ApplicationError: the provider's failure; looking costs nothing, and is tried again.
        """
        return await _visit(order, self._client.look)

    @activity.defn(name=names.CANCEL_ECONOMY_PARTS)
    async def cancel_economy_parts(self, order: LookOrder) -> SeenBatches:
        """Asks the batches to stop. What was carried out by then is kept and charged. Errors as for looking."""
        return await _visit(order, self._client.cancel)


async def _visit(order: LookOrder, call: Callable[[str], Awaitable[ProviderBatch]]) -> SeenBatches:
    with known_failures():
        try:
            async with heartbeats():  # hundreds of parts take longer than a heartbeat may be missed
                seen = [await _see(batch_id, call) for batch_id in order.provider_batch_ids]
        except ProviderFailure as failure:
            raise describe_provider_failure(failure, patient=True) from None
    return SeenBatches(batches=tuple(seen))


async def _see(batch_id: str, call: Callable[[str], Awaitable[ProviderBatch]]) -> SeenBatch:
    try:
        batch = await call(batch_id)
    except ObjectGone as gone:
        return SeenBatch(provider_batch_id=batch_id, status=GONE, has_ended=True, reason=str(gone))
    return SeenBatch(
        provider_batch_id=batch_id,
        status=batch.status,
        has_ended=batch.has_ended,
        completed=batch.completed,
        failed=batch.failed,
        output_file_id=batch.output_file_id,
        error_file_id=batch.error_file_id,
        reason="; ".join(batch.errors) or None,
        untouched=batch.is_untouched,
    )
