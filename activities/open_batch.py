"""`open_batch`: a batch and its lines into the database, page by page, or taken up again where they are there already."""

import asyncio

from temporalio import activity

from activities.batch_pages import BatchPages
from activities.failures import known_failures
from activities.heartbeat import heartbeats
from billing.batch_records import NewLine
from billing.batches import Batches
from contracts import names
from contracts.batch_pages import BatchLine
from contracts.batches import BatchOrder, BatchProgress
from imaging.store import ImageStore

_NO_ID = "The line has no request_id: `starter.py batch run` gives each line one."


class BatchOpener:
    """Registers batches of one image store in one database."""

    def __init__(self, batches: Batches, store: ImageStore) -> None:
        self._batches = batches
        self._store = store

    @activity.defn(name=names.OPEN_BATCH)
    async def open_batch(self, order: BatchOrder) -> BatchProgress:
        """Where the batch stands once all of its lines are registered. The same order again changes nothing.

        Raises:
            BatchConflict: the id stands for other lines; not tried again.
            LedgerUnavailable, StoreUnavailable: tried again, from the first page that is not registered.
        """
        with known_failures():
            async with heartbeats():
                pages = BatchPages(self._store, order.batch_id, order.digest)
                first = await asyncio.to_thread(self._batches.open, order)
                for page in range(first, order.pages):
                    if order.template_batch_id:
                        await pages.copy_from(order.template_batch_id, page)
                    lines = [describe_line(line) for line in await pages.read(page)]
                    await asyncio.to_thread(self._batches.register, order.batch_id, page, lines)
                progress = await asyncio.to_thread(self._batches.find, order.batch_id)
                assert progress is not None  # noqa: S101 - it was opened above, and no batch is ever deleted
                return progress


def describe_line(line: BatchLine) -> NewLine:
    """A line of a page as it is registered."""
    request_id = (line.request or {}).get("request_id")
    if line.request is None or not isinstance(request_id, str):
        return NewLine(line=line.line, run_id=None, problem=line.problem or _NO_ID)
    tenant = line.request.get("tenant") or "default"
    return NewLine(line=line.line, run_id=names.run_id_for(str(tenant), request_id))
