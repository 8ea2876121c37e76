"""Follow the partial images of a run: `python partial_images.py REQUEST_ID`. Needs only `temporalio`."""

import asyncio
import os
import sys
import traceback
from collections.abc import Coroutine
from typing import Any

from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.contrib.workflow_streams import WorkflowStreamClient


async def main(tenant: str, request_id: str) -> int:
    client = await Client.connect(os.environ.get("TEMPORAL_ADDRESS", "localhost:7233"))
    request = {
        "model": "gpt-image-2",
        "prompt": "A lighthouse in the fog",
        "size": "1024x1024",
        "quality": "low",
        "stream": True,
        "partial_images": 2,
        "tenant": tenant,
    }
    run = await client.start_workflow(
        "ImageGeneration",
        request,
        id=f"image:{tenant}:{request_id}",
        task_queue="image-runs",
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY,
    )
    # It ends when the run does. A late subscriber gets every item from the start.
    async for item in WorkflowStreamClient.create(client, run.id).subscribe("partial_images"):
        partial = item.data
        print(f"partial picture {partial['index'] + 1}: {partial['image']['uri']}", flush=True)
    result = await run.result()
    print(f"finished: {result['images'][0]['uri']} costs {result['cost']['amount_usd']} USD")
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
    run_and_exit(main("acme", sys.argv[1]))
