"""`advance_batch`: some seconds of work on a batch: runs that ended are written down, further ones are started.

All that is known of a batch is in the database, so that a step may end at any moment, also by a crash, and the next goes on.
"""

import asyncio
from contextlib import suppress
from datetime import timedelta

from temporalio import activity
from temporalio.client import Client
from temporalio.exceptions import ApplicationError

from activities.batches.follow_runs import BatchFollower
from activities.batches.pages import BatchPages
from activities.batches.start_runs import BatchStarter, Started
from activities.check_request import RequestChecker
from activities.errors import translate_errors
from activities.heartbeats import heartbeats, stop_gracefully
from gpt_image_runs.batches.batches import Batches
from gpt_image_runs.batches.lines import BatchEnds, BatchLines
from gpt_image_runs.batches.models import NewLine
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.batches import BatchLine, BatchOrder, BatchProgress, BatchStep
from gpt_image_runs.database.engine import Database
from gpt_image_runs.images.store import ImageStore

_BEAT = timedelta(seconds=1)
"""Whoever pauses or cancels a batch waits for the next heartbeat."""
_PAUSE_SECONDS = 0.5
_NOTHING = Started(0, capped=False)


class BatchAdvancer:
    """Advances batches: their runs go to one Temporal namespace, their lines are in one database."""

    def __init__(
        self, client: Client, database: Database, store: ImageStore, checker: RequestChecker
    ) -> None:
        self._client = client
        self._database = database
        self._store = store
        self._checker = checker

    @activity.defn(name=names.ADVANCE_BATCH)
    async def advance_batch(self, step: BatchStep) -> BatchProgress:
        """Where the batch stands after these seconds; sooner where it has ended, or the step is cancelled.

        Raises:
            LedgerUnavailable, StoreUnavailable, RPCError: tried again; nothing is started or counted twice.
        """
        stop = asyncio.Event()
        with translate_errors():
            async with heartbeats(every=_BEAT):
                return await stop_gracefully(self._advance(step, stop), stop)

    async def _advance(self, step: BatchStep, stop: asyncio.Event) -> BatchProgress:
        clock = asyncio.get_running_loop().time
        ends_at = clock() + step.seconds
        progress = await self._find(step.batch_id)
        lines, ends = (
            BatchLines(self._database, step.batch_id),
            BatchEnds(self._database, step.batch_id),
        )
        pages = BatchPages(self._store, step.batch_id, progress.digest)
        follower = BatchFollower(self._client, lines, ends, step.batch_id)
        starter = BatchStarter(
            self._client,
            self._database,
            checker=self._checker,
            pages=pages,
            lines=lines,
            ends=ends,
            batch=progress,
        )
        await starter.settle_claims()
        if step.wish == "cancel":
            await follower.cancel_all()
        started = _NOTHING
        while True:
            await follower.collect()
            progress = await asyncio.to_thread(ends.settle, step.wish, capped=started.capped)
            is_idle = step.wish != "start" and not progress.running
            if progress.has_ended or is_idle or _must_end(stop) or clock() >= ends_at:
                return progress
            started = await starter.start_some(progress) if step.wish == "start" else _NOTHING
            if not started.lines:
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), _PAUSE_SECONDS)

    async def _find(self, batch_id: str) -> BatchProgress:
        progress = await asyncio.to_thread(Batches(self._database).find, batch_id)
        if progress is None:
            raise ApplicationError(
                f"There is no batch {batch_id}: it has to be opened first.",
                type="BatchNotFound",
                non_retryable=True,
            )
        return progress


def _must_end(stop: asyncio.Event) -> bool:
    return stop.is_set() or activity.is_worker_shutdown()


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
        with translate_errors():
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
