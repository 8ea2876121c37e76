"""`open_batch` registers the lines of a batch; `advance_batch` works on it for some seconds: record ended runs, start others.

A batch's whole state is in the database, so a step may end at any moment, also by a crash, and the next one continues.
"""

import asyncio
from contextlib import suppress
from datetime import timedelta

from temporalio import activity
from temporalio.client import Client
from temporalio.exceptions import ApplicationError

from activities.batches.follow_runs import BatchFollower
from activities.batches.pages import BatchPages, register_batch
from activities.batches.start_runs import BatchStarter, Started
from activities.check_request import RequestChecker
from activities.errors import translate_errors
from activities.heartbeats import heartbeats, stop_gracefully
from gpt_image_runs.batches.batches import Batches
from gpt_image_runs.batches.lines import BatchLines
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.batches import BatchOrder, BatchProgress, BatchStep
from gpt_image_runs.database.engine import Database
from gpt_image_runs.images.store import ImageStore

# A pause or a cancellation of the batch takes effect at the next heartbeat.
_BEAT = timedelta(seconds=1)
_PAUSE_SECONDS = 0.5
_NOTHING = Started(0, capped=False)


class BatchAdvancer:
    """Advances batches whose runs are in one Temporal namespace and whose lines are in one database."""

    def __init__(
        self, client: Client, database: Database, store: ImageStore, checker: RequestChecker
    ) -> None:
        self._client = client
        self._database = database
        self._store = store
        self._checker = checker

    @activity.defn(name=names.ADVANCE_BATCH)
    async def advance_batch(self, step: BatchStep) -> BatchProgress:
        """Work on a batch for some seconds, or until it ends, and return its progress.

        A cancelled step ends early and returns the progress too.

        Raises:
            ApplicationError: type `BatchNotFound`, the batch was not opened.
            LedgerUnavailable, StoreUnavailable, RPCError: retried; nothing is started or counted twice.
        """
        stop = asyncio.Event()
        with translate_errors():
            async with heartbeats(every=_BEAT):
                return await stop_gracefully(self._advance(step, stop), stop)

    async def _advance(self, step: BatchStep, stop: asyncio.Event) -> BatchProgress:
        clock = asyncio.get_running_loop().time
        ends_at = clock() + step.seconds
        progress = await self._find(step.batch_id)
        lines = BatchLines(self._database, step.batch_id)
        pages = BatchPages(self._store, step.batch_id, progress.digest)
        follower = BatchFollower(self._client, lines, step.batch_id)
        starter = BatchStarter(
            self._client,
            self._database,
            checker=self._checker,
            pages=pages,
            lines=lines,
            batch=progress,
        )
        await starter.settle_claims()
        if step.wish == "cancel":
            await follower.cancel_all()
        started = _NOTHING
        while True:
            await follower.collect()
            progress = await asyncio.to_thread(lines.settle, step.wish, capped=started.capped)
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


class BatchOpener:
    """Registers batches whose pages are in one image store in one database."""

    def __init__(self, batches: Batches, store: ImageStore) -> None:
        self._batches = batches
        self._store = store

    @activity.defn(name=names.OPEN_BATCH)
    async def open_batch(self, order: BatchOrder) -> BatchProgress:
        """Register all lines of a batch and return its progress. Idempotent.

        Raises:
            BatchConflict: the id stands for other lines; not retried.
            LedgerUnavailable, StoreUnavailable: retried, from the first page that is not registered.
        """
        with translate_errors():
            async with heartbeats():
                await register_batch(self._batches, self._store, order)
                progress = await asyncio.to_thread(self._batches.find, order.batch_id)
                assert progress is not None  # noqa: S101 - it was opened above, and no batch is ever deleted
                return progress
