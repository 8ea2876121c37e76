"""Gathering the evidence at the end: Temporal's list, plain SQL, the provider's books, hashes of files."""

import asyncio
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from temporalio.client import Client, WorkflowExecution, WorkflowExecutionStatus, WorkflowFailureError
from temporalio.exceptions import ApplicationError

from tests.chaos.evidence import Evidence, Execution
from tests.chaos.ledgers import read_ledger
from tests.chaos.site import Site

_AT_ONCE = 16


async def collect_evidence(site: Site) -> Evidence:
    """Collect the evidence once all runs have ended. Stops the workers, so that nothing changes meanwhile."""
    executions = await _list_executions(site.client)
    await site.stop_workers()
    await site.wait_until_provider_is_idle()
    attempts, entries, spend = await asyncio.to_thread(read_ledger, site.ledger)
    promised = [image["uri"] for entry in entries for image in entry["images"]]
    promised += [
        image["uri"] for execution in executions if execution.result for image in execution.result["images"]
    ]
    return Evidence(
        executions=tuple(executions),
        attempts=tuple(attempts),
        entries=tuple(entries),
        spend=tuple(spend),
        books=tuple(json.loads(line) for line in site.books.read_text().splitlines()),
        pictures=await asyncio.to_thread(_hash_pictures, promised),
        receipts=frozenset(
            await asyncio.to_thread(_list_kept_answers, site.images / "documents" / "attempts")
        ),
    )


async def _list_executions(client: Client) -> list[Execution]:
    found = [execution async for execution in client.list_workflows()]
    found.sort(key=lambda execution: execution.start_time)
    gate = asyncio.Semaphore(_AT_ONCE)

    async def read(execution: WorkflowExecution) -> Execution:
        async with gate:
            return await _read_execution(client, execution)

    return list(await asyncio.gather(*(read(execution) for execution in found)))


async def _read_execution(client: Client, execution: WorkflowExecution) -> Execution:
    status = execution.status.name if execution.status else "UNKNOWN"
    if execution.status is WorkflowExecutionStatus.RUNNING:
        return Execution(run_id=execution.id, status=status)
    handle = client.get_workflow_handle(execution.id, run_id=execution.run_id)
    try:
        result: dict[str, Any] = await handle.result(follow_runs=False)
    except WorkflowFailureError as error:
        cause = error.cause
        kind = cause.type if isinstance(cause, ApplicationError) else type(cause).__name__
        return Execution(run_id=execution.id, status=status, failure_type=kind, failure=str(cause))
    return Execution(run_id=execution.id, status=status, result=result)


def _list_kept_answers(receipts: Path) -> list[str]:
    """List the attempts whose receipt says that images came; failures have receipts too."""
    found = (json.loads(path.read_text()) for path in receipts.rglob("*.json"))
    return [
        receipt["attempt"]["attempt_id"]
        for receipt in found
        if receipt["outcome"] and receipt["outcome"]["outcome"] == "succeeded"
    ]


def _hash_pictures(uris: Iterable[str]) -> dict[str, tuple[str, int] | None]:
    return {uri: _hash_file(Path(url2pathname(urlsplit(uri).path))) for uri in set(uris)}


def _hash_file(path: Path) -> tuple[str, int] | None:
    if not path.is_file():
        return None
    data = path.read_bytes()
    return hashlib.sha256(data).hexdigest(), len(data)
