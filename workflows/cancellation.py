"""What a cancellation does not stop: the bill of what was paid for."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from temporalio import workflow

T = TypeVar("T")


async def finish_despite_cancellation(work: Coroutine[Any, Any, T]) -> T:
    """Runs `work` to its end, also when the run is cancelled meanwhile: then the run completes with its result."""
    task = asyncio.ensure_future(work)
    while True:
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.done():
                raise
            workflow.logger.info(
                "A cancellation came after the provider was paid; the run is billed and completes."
            )
