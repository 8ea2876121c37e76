"""Starts a run and waits for its result: `python python_untyped.py REQUEST_ID`. Needs `temporalio`, and no code of ours."""

import asyncio
import json
import os
import sys
from contextlib import suppress
from typing import Any

from temporalio.client import Client, WorkflowFailureError
from temporalio.common import WorkflowIDReusePolicy
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError


async def generate(client: Client, tenant: str, request_id: str) -> dict[str, Any]:
    request = {
        "model": "gpt-image-2",
        "prompt": "A lighthouse at dawn",
        "size": "1024x1024",
        "quality": "low",
        "tenant": tenant,
    }
    run_id = f"image:{tenant}:{request_id}"
    while True:
        try:
            result: dict[str, Any] = await client.execute_workflow(
                "ImageGeneration",
                request,
                id=run_id,
                task_queue="image-runs",
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            )
        except WorkflowAlreadyStartedError:
            # It is under way, perhaps with other content. Started again after its end, it tells, and pays nothing.
            with suppress(WorkflowFailureError):
                await client.get_workflow_handle(run_id).result()
        else:
            return result


async def main() -> int:
    client = await Client.connect(os.environ.get("TEMPORAL_ADDRESS", "localhost:7233"))
    try:
        result = await generate(client, "acme", sys.argv[1])
    except WorkflowFailureError as failure:
        cause = failure.cause
        if not isinstance(cause, ApplicationError):
            raise
        print(f"{cause.type}: {cause.message}", file=sys.stderr)
        print(json.dumps(list(cause.details)))  # of RequestRefused: the problems
        return 1
    print(json.dumps(result, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
