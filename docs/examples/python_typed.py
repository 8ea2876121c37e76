"""A quote, a run with its receipt, its status and its result: `python python_typed.py REQUEST_ID`.

Needs `temporalio` and `pydantic`, and the package `gpt_image_runs` of this repository, of which it imports the contracts alone.
"""

import asyncio
import os
import sys
import traceback
from collections.abc import Coroutine
from typing import Any
from uuid import uuid4

from temporalio.client import Client, WithStartWorkflowOperation
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.contrib.pydantic import pydantic_data_converter

from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.quote import Quote
from gpt_image_runs.contracts.request import ImageRequest
from gpt_image_runs.contracts.result import RunResult, RunStatus
from gpt_image_runs.contracts.submissions import SubmitReceipt


async def main() -> int:
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
    update_id = str(uuid4())
    start: WithStartWorkflowOperation[Any, RunResult] = WithStartWorkflowOperation(
        names.WORKFLOW,
        request,
        id=names.run_id_for(request.tenant, sys.argv[1]),
        task_queue=names.RUNS_QUEUE,
        result_type=RunResult,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
        memo={"submission": update_id},
    )
    receipt = await client.execute_update_with_start_workflow(
        names.UPDATE_SUBMIT,
        request,
        start_workflow_operation=start,
        id=update_id,
        result_type=SubmitReceipt,
    )
    print(f"{receipt.status}, at most {receipt.price_ceiling_usd} USD: {receipt.message}")
    if receipt.status not in {"accepted", "attached"}:
        return 1
    handle = await start.workflow_handle()
    status = await handle.query(names.QUERY_STATUS, result_type=RunStatus)
    print(f"{status.run_id} is {status.stage}")
    result = await handle.result()
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
