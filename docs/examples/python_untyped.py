"""Submit a request and wait for its result: `python python_untyped.py REQUEST_ID`. Needs only `temporalio`."""

import asyncio
import json
import os
import sys
import traceback
from collections.abc import Coroutine
from typing import Any
from uuid import uuid4

from temporalio.client import Client, WithStartWorkflowOperation, WorkflowFailureError, WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import ApplicationError


async def submit(
    client: Client, request: dict[str, Any], run_id: str
) -> tuple[dict[str, Any], WorkflowHandle[Any, Any]]:
    update_id = str(uuid4())  # of this call: with an id that Temporal knows, it would not look at the request
    start: WithStartWorkflowOperation[Any, Any] = WithStartWorkflowOperation(
        "ImageGeneration",
        request,
        id=run_id,
        task_queue="image-runs",
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
        memo={"submission": update_id},
    )
    receipt: dict[str, Any] = await client.execute_update_with_start_workflow(
        "submit", request, start_workflow_operation=start, id=update_id
    )
    return receipt, await start.workflow_handle()


async def main() -> int:
    client = await Client.connect(os.environ.get("TEMPORAL_ADDRESS", "localhost:7233"))
    request = {
        "model": "gpt-image-2",
        "prompt": "A lighthouse at dawn",
        "size": "1024x1024",
        "quality": "low",
        "tenant": "acme",
    }
    receipt, handle = await submit(client, request, f"image:acme:{sys.argv[1]}")
    print(f"{receipt['status']}: {receipt['message']}", file=sys.stderr)
    if receipt["status"] not in {"accepted", "attached"}:
        print(json.dumps(receipt))
        return 1
    try:
        result = await handle.result()
    except WorkflowFailureError as failure:
        cause = failure.cause
        if not isinstance(cause, ApplicationError):
            raise
        print(f"{cause.type}: {cause.message}", file=sys.stderr)
        return 1
    print(json.dumps(result, indent=2))
    return 0


def run_and_exit(main: Coroutine[Any, Any, int]) -> None:
    """Run to the end and exit without Python's shutdown, in which the SDK's threads may crash (temporalio/sdk-python#300)."""
    status = 1
    try:
        status = asyncio.run(main)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    run_and_exit(main())
