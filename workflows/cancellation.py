"""What a cancellation does not stop: the bill of what was paid for, and its corrections."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from temporalio import workflow

T = TypeVar("T")


async def finish_despite_cancellation(
    work: Coroutine[Any, Any, T], tell: Callable[[], None] | None = None
) -> T:
    """Runs `work` to its end, also when the run is cancelled meanwhile: then the run completes with its result.

    `tell` is called where the work has to know of it.
    """
    task = asyncio.ensure_future(work)
    while True:
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.done():  # at the same moment: the run is billed, so it completes
                return task.result()
            if tell is not None:
                tell()
                continue
            workflow.logger.info(
                "A cancellation came too late: the ledger gets its entry, and the run completes."
            )


async def await_answer(activity: workflow.ActivityHandle[T]) -> T:
    """Awaits an activity that may have paid for something. A cancellation of the run is passed on to it, and whatever it answers
    then counts: also an answer that came at the same moment, for which the SDK would let the cancellation win.
    """
    while True:
        try:
            return await asyncio.shield(activity)
        except asyncio.CancelledError:
            await asyncio.sleep(0)  # what has arrived together with the cancellation is taken in first
            if activity.done():
                return activity.result()
            activity.cancel()
