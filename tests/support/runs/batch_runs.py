"""Batches for tests: started as another program would, by names and plain JSON, and awaited by what the database says."""

import asyncio
import hashlib
import json
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from temporalio.client import WorkflowHandle

from gpt_image_runs.batches.batches import Batches
from gpt_image_runs.batches.results import LineResult, list_results
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.batches import BatchLine, BatchProgress, page_key, write_line
from simulator.request_log import BookEntry
from tests.support.servers.stack import Stack
from tests.support.servers.worker_site import Site

WORST_WAIT_SECONDS = 90
CHEAP = {"model": "gpt-image-2", "size": "1024x1024", "quality": "low"}

BatchHandle = WorkflowHandle[Any, Any]


def new_batch_id() -> str:
    """Make an id that no test has used."""
    return f"batch-{uuid.uuid4().hex[:12]}"


def write_lines(folder: Path, prompts: Sequence[str], batch_id: str | None = None, **fields: Any) -> Path:
    """Write a file of requests, a prompt each."""
    path = folder / f"{batch_id or new_batch_id()}.jsonl"
    lines = [json.dumps({**CHEAP, **fields, "prompt": prompt}) for prompt in prompts]
    path.write_text("\n".join(lines) + "\n")
    return path


async def start_batch(
    stack: Stack, prompts: Sequence[str], *, batch_id: str | None = None, **options: Any
) -> BatchHandle:
    """Store a page of requests and start their batch."""
    name = batch_id or new_batch_id()
    requests = [{**CHEAP, "prompt": prompt} for prompt in prompts]
    return await start_requests(stack, requests, batch_id=name, **options)


async def start_requests(
    stack: Stack, requests: Sequence[dict[str, Any]], *, batch_id: str, **options: Any
) -> BatchHandle:
    """Start a batch of whole requests; one without a request id gets the line's."""
    lines = [
        BatchLine(line=number, request={"request_id": f"{batch_id}-{number:06d}", **request})
        for number, request in enumerate(requests, start=1)
    ]
    page = b"".join(map(write_line, lines))
    digest = hashlib.sha256(page).hexdigest()
    await stack.store.put_document(page_key(batch_id, digest, 0), page)
    order = {"batch_id": batch_id, "digest": digest, "lines": len(lines), "pages": 1, **options}
    return await stack.client.start_workflow(
        names.BATCH, order, id=names.batch_workflow_id(batch_id), task_queue=names.RUNS_QUEUE
    )


async def start_site_batch(site: Site, batch_id: str, *, lines: int, **options: int) -> None:
    """Start a batch of slow requests on a site."""
    written = [
        BatchLine(
            line=number,
            request={
                **CHEAP,
                "prompt": f"Cup number {number} [simulate:delay=0.2]",
                "request_id": f"{batch_id}-{number:06d}",
            },
        )
        for number in range(1, lines + 1)
    ]
    page = b"".join(map(write_line, written))
    digest = hashlib.sha256(page).hexdigest()
    await site.store.put_document(page_key(batch_id, digest, 0), page)
    order = {"batch_id": batch_id, "digest": digest, "lines": lines, "pages": 1, "window": 10, **options}
    workflow_id = names.batch_workflow_id(batch_id)
    await site.client.start_workflow(names.BATCH, order, id=workflow_id, task_queue=names.RUNS_QUEUE)


def name_of(handle: BatchHandle) -> str:
    """Return the batch id of a workflow."""
    return handle.id.removeprefix("batch:")


def find(stack: Stack, batch_id: str) -> BatchProgress | None:
    """Find a batch's progress."""
    return Batches(stack.database).find(batch_id)


async def until(stack: Stack, batch_id: str, condition: Callable[[BatchProgress], bool]) -> BatchProgress:
    """Wait until a batch meets a condition."""
    async with asyncio.timeout(WORST_WAIT_SECONDS):
        while not ((progress := find(stack, batch_id)) and condition(progress)):
            await asyncio.sleep(0.05)
    return progress


def results_of(stack: Stack, batch_id: str) -> list[LineResult]:
    """List the results of a batch."""
    return list(list_results(stack.database, batch_id))


def calls_of(stack: Stack, batch_id: str) -> list[BookEntry]:
    """List the requests of a batch that the provider received, whose lines have their usual ids."""
    return [
        entry
        for entry in stack.simulator.books.entries
        if entry.client_request_id and f":{batch_id}-" in entry.client_request_id
    ]


def sum_paid(calls: Sequence[BookEntry]) -> int:
    """Sum up what the provider was paid for these requests, in micro-USD."""
    return sum(call.list_price_micro_usd for call in calls if call.paid)
