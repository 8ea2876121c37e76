"""Economy batches for tests: their pages written as the command line writes them, their time told by the test."""

import asyncio
import hashlib
import json
import uuid
from collections.abc import Iterable
from typing import Any

from temporalio.client import Client, WorkflowHandle
from temporalio.service import RPCError, RPCStatusCode

from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.batches import LINES_A_PAGE, BatchLine, page_key, write_line
from gpt_image_runs.contracts.economy import EconomyOrder, EconomyProgress, EconomySummary
from gpt_image_runs.images.store import ImageStore
from simulator.batches.batches import ENDED
from simulator.server import Simulator
from tests.support.servers.stack import Stack

LINE = {"model": "gpt-image-1", "size": "1024x1024", "quality": "low"}


def new_batch_id() -> str:
    """Make a batch id that no test has used."""
    return f"test-{uuid.uuid4().hex[:12]}"


def make_requests(batch_id: str, prompts: Iterable[str], **changed: Any) -> list[dict[str, Any]]:
    """Make a request for each prompt, with ids that belong to the batch."""
    return [
        {**LINE, "prompt": prompt, "request_id": f"{batch_id}-{number}", **changed}
        for number, prompt in enumerate(prompts, start=1)
    ]


async def write_pages(
    store: ImageStore, batch_id: str, requests: list[Any], *, lines_a_page: int = LINES_A_PAGE
) -> EconomyOrder:
    """Store a batch's lines and return the workflow's input."""
    digest = hashlib.sha256(json.dumps(requests, default=str).encode()).hexdigest()
    lines = [
        request if isinstance(request, BatchLine) else BatchLine(line=number, request=request)
        for number, request in enumerate(requests, start=1)
    ]
    pages = [lines[start : start + lines_a_page] for start in range(0, len(lines), lines_a_page)]
    for number, page in enumerate(pages):
        await store.put_document(page_key(batch_id, digest, number), b"".join(map(write_line, page)))
    return EconomyOrder(batch_id=batch_id, digest=digest, lines=len(lines), pages=len(pages))


async def start(client: Client, order: EconomyOrder) -> WorkflowHandle[Any, Any]:
    """Start a batch, or its next round."""
    return await client.start_workflow(
        names.ECONOMY_BATCH,
        order.model_dump(mode="json"),
        id=order.workflow_id,
        task_queue=names.RUNS_QUEUE,
    )


async def until_sent(simulator: Simulator, batches: int) -> None:
    """Wait until the provider has this many batches."""
    async with asyncio.timeout(60):
        while len(simulator.batches.all) < batches:
            await asyncio.sleep(0.05)


async def finish(simulator: Simulator, handle: WorkflowHandle[Any, Any]) -> EconomySummary:
    """End the provider's batches and have the workflow poll, until it has a result."""
    result = asyncio.create_task(handle.result())
    async with asyncio.timeout(120):
        while not result.done():
            for batch in simulator.batches.all:
                if batch.status not in ENDED:
                    await simulator.batches.finish(batch)
            await look(handle)
            await asyncio.wait([result], timeout=0.3)
    return EconomySummary.model_validate(await result)


async def look(handle: WorkflowHandle[Any, Any]) -> None:
    """Ask a workflow to poll now, if it still runs."""
    try:
        await handle.signal(names.SIGNAL_LOOK)
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:  # it has ended
            raise


async def run_batch(
    stack: Stack, requests: list[Any], *, batch_id: str | None = None
) -> tuple[EconomySummary, EconomyOrder]:
    """Run a whole round of a batch."""
    order = await write_pages(stack.store, batch_id or new_batch_id(), requests)
    return await finish(stack.simulator, await start(stack.client, order)), order


async def show(handle: WorkflowHandle[Any, Any]) -> EconomyProgress:
    """Query a batch's progress."""
    return EconomyProgress.model_validate(await handle.query(names.QUERY_ECONOMY))


def run_ids(requests: list[dict[str, Any]]) -> list[str]:
    """List the run ids of a batch's lines."""
    return [names.run_id_for("default", request["request_id"]) for request in requests]
