"""Waiting for a workflow whose steps nobody needs to follow, and telling meanwhile why it takes long."""

import asyncio
from typing import Any, TypeVar

from temporalio.client import Client, WorkflowHandle

from cli.following import warn_of_failures, warn_without_worker
from cli.output import Output

_PATIENCE_SECONDS = 2.0

T = TypeVar("T")


async def await_result(client: Client, handle: WorkflowHandle[Any, T], output: Output, told: set[str]) -> T:
    """The workflow's result. `told` keeps what was said, so that it is said once.

    Raises:
        WorkflowFailureError: it ended without one.
        RPCError: Temporal is lost; the workflow goes on.
    """
    result = asyncio.ensure_future(handle.result())
    try:
        while True:
            done, _ = await asyncio.wait({result}, timeout=_PATIENCE_SECONDS)
            if done:
                return await result
            await warn_without_worker(client, output, told)
            await warn_of_failures(handle, output, told)
    finally:
        result.cancel()
