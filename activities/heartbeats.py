"""Keeping an activity alive, and keeping a paid call alive against everything that would only waste it."""

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
    """Heartbeats in the background while the block runs, three in each heartbeat timeout where nothing else is said.

    The first comes after such a pause too: Temporal counts from the start by itself, and each heartbeat is a write there.
    A cancellation is told with the answer to a heartbeat: who wants to hear of it soon beats often. `details` are for the
    next attempt, and are told at once.
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
    """Runs `work` to its end, whoever cancels it: hanging up on the provider saves no money and loses the picture.

    A worker's shutdown, a pause, a cancelled run, a timeout: each only asks; `work` is bounded by the client's own
    timeout. What it returns is accepted where Temporal still wants it, and otherwise found by the next attempt.
    """
    task = asyncio.ensure_future(work)
    while True:
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.done():  # at the same moment: what was paid for counts, not the cancellation
                return task.result()
            details = activity.cancellation_details()
            _log.info("A cancellation is ignored until the provider has answered.", details=repr(details))


async def stop_gracefully(work: Coroutine[Any, Any, T], stop: asyncio.Event) -> T:
    """Runs `work` to its end, and sets `stop` where somebody cancels it: it is to end soon then, with what it has done."""
    task = asyncio.ensure_future(work)
    while True:
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.done():
                return task.result()
            stop.set()
