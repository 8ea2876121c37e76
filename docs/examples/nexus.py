"""Make an image from a workflow in another namespace: `python nexus.py NAMESPACE REQUEST_ID`.

Needs `temporalio` and `pydantic`, and the package `gpt_image_runs` of this repository, of which it imports only the contracts.
"""

import asyncio
import os
import sys
import traceback
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Worker

with workflow.unsafe.imports_passed_through():
    from gpt_image_runs.contracts.nexus import ImageRuns
    from gpt_image_runs.contracts.request import ImageRequest
    from gpt_image_runs.contracts.result import RunResult


@workflow.defn
class ProductPage:
    """A workflow of your team that needs one image."""

    @workflow.run
    async def run(self, request_id: str) -> RunResult:
        runs = workflow.create_nexus_client(service=ImageRuns, endpoint="image-runs")
        request = ImageRequest(
            model="gpt-image-2",
            prompt="A lighthouse at dawn",
            size="1024x1024",
            quality="low",
            tenant="acme",
            request_id=request_id,
        )
        quote = await runs.execute_operation(ImageRuns.quote, request)
        workflow.logger.info("It will cost at most %s USD.", quote.ceiling_usd)
        return await runs.execute_operation(
            ImageRuns.generate, request, schedule_to_close_timeout=timedelta(hours=7)
        )


async def main() -> int:
    address, (namespace, request_id) = os.environ.get("TEMPORAL_ADDRESS", "localhost:7233"), sys.argv[1:]
    client = await Client.connect(address, namespace=namespace, data_converter=pydantic_data_converter)
    async with Worker(client, task_queue="product-pages", workflows=[ProductPage]):
        result = await client.execute_workflow(
            ProductPage.run, request_id, id=f"page-{request_id}", task_queue="product-pages"
        )
    print(f"{result.images[0].uri} costs {result.cost.amount_usd} USD, {result.billing.state}")
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
