"""Send heartbeats in the background, and shield a paid call from cancellation."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import structlog
from temporalio import activity

T = TypeVar("T")

_BEATS_PER_TIMEOUT = 3
_log = structlog.get_logger()


@contextlib.asynccontextmanager
async def heartbeats(*details: Any, every: timedelta | None = None) -> AsyncIterator[None]:
    """Send heartbeats in the background while the block runs, by default three in each heartbeat timeout.

    Without `details` the first one comes after an interval: Temporal counts from the start of the attempt, and each
    heartbeat is a write there. `details` are for the next attempt and are sent at once. An activity hears of a
    cancellation in the response to a heartbeat, so a short interval (`every`) makes it react sooner.
    """
    timeout = activity.info().heartbeat_timeout
    if timeout is None:
        yield
        return
    beating = asyncio.create_task(_beat((every or timeout / _BEATS_PER_TIMEOUT).total_seconds(), details))
    try:
        yield
    finally:
        beating.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await beating


async def _beat(interval_seconds: float, details: Sequence[Any]) -> None:
    if details:
        activity.heartbeat(*details)
    while True:
        await asyncio.sleep(interval_seconds)
        activity.heartbeat(*details)


async def shield_from_cancellation(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to completion even if the activity is cancelled.

    Disconnecting does not stop the provider from charging, so a request that was sent is always awaited: also when the
    worker shuts down, the activity is paused or timed out, or the run is cancelled. `work` ends by the client's own
    timeout. If Temporal does not accept its result any more, the next attempt finds it.
    """
    task = asyncio.ensure_future(work)
    while True:
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.done():  # at the same moment: the result counts, not the cancellation
                return task.result()
            details = activity.cancellation_details()
            _log.info("cancellation_deferred", details=repr(details))


async def stop_gracefully(work: Coroutine[Any, Any, T], stop: asyncio.Event) -> T:
    """Run `work` to completion, and set `stop` on a cancellation, so that it returns soon with what it has done."""
    task = asyncio.ensure_future(work)
    while True:
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.done():
                return task.result()
            stop.set()
