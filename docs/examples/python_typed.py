"""A quote, a run, its status and its result: `python python_typed.py REQUEST_ID`.

Needs `temporalio` and `pydantic`, and a copy of the folder `contracts/`, which imports nothing else of ours.
"""

import asyncio
import os
import sys
from uuid import uuid4

from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.contrib.pydantic import pydantic_data_converter

from contracts import names
from contracts.quote import Quote
from contracts.request import ImageRequest
from contracts.result import RunResult, RunStatus


async def main() -> None:
    client = await Client.connect(
        os.environ.get("TEMPORAL_ADDRESS", "localhost:7233"), data_converter=pydantic_data_converter
    )
    request = ImageRequest(
        model="gpt-image-2",
        prompt="A lighthouse at dawn",
        size="1024x1024",
        quality="low",
        tenant="acme",
        request_id=sys.argv[1],
    )
    quote = await client.execute_workflow(
        names.PRICE_QUOTE,
        request,
        id=f"quote:{uuid4()}",
        task_queue=names.RUNS_QUEUE,
        result_type=Quote,
    )
    print(f"expected {quote.expected_usd} USD, at most {quote.ceiling_usd} USD")
    handle = await client.start_workflow(
        names.WORKFLOW,
        request,
        id=names.run_id_for(request.tenant, sys.argv[1]),
        task_queue=names.RUNS_QUEUE,
        result_type=RunResult,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
    )
    status = await handle.query(names.QUERY_STATUS, result_type=RunStatus)
    print(f"{status.run_id} is {status.stage}")
    result = await handle.result()
    print(f"{result.images[0].uri} costs {result.cost.amount_usd} USD, {result.billing.state}")


if __name__ == "__main__":
    asyncio.run(main())
