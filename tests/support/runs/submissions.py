"""Submitting as docs/how-to/integrate.md says it, by names and plain JSON, also while the ledger is away. No test here."""

import asyncio
import uuid
from contextlib import suppress
from datetime import timedelta
from typing import Any

from temporalio.client import Client, WithStartWorkflowOperation, WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.service import RPCError

from cli.runs.start import CheckedRequest
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.request import ImageRequest
from gpt_image_runs.contracts.submissions import SubmitReceipt
from tests.support.servers.stack import Stack, activities_in, new_run_id

# Longer than a receipt takes on any machine.
RECEIPT_PATIENCE = timedelta(seconds=60)


def make_checked_request(prompt: str, **changes: Any) -> CheckedRequest:
    """Make a request as the command line has checked it."""
    payload = {
        "model": "gpt-image-2",
        "prompt": prompt,
        "size": "1024x1024",
        "quality": "low",
        "request_id": new_run_id().rpartition(":")[2],
        **changes,
    }
    request = ImageRequest(**payload)
    return CheckedRequest(payload, request, request.model, ())


async def submit(
    client: Client,
    payload: Any,
    run_id: str,
    *,
    update_id: str | None = None,
    memo: dict[str, Any] | None = None,
    patience: timedelta | None = None,
) -> tuple[SubmitReceipt, WorkflowHandle[Any, Any]]:
    """Submit once; return the receipt and the workflow."""
    start: WithStartWorkflowOperation[Any, Any] = WithStartWorkflowOperation(
        names.WORKFLOW,
        payload,
        id=run_id,
        task_queue=names.RUNS_QUEUE,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
        memo=memo,
    )
    receipt: SubmitReceipt = await client.execute_update_with_start_workflow(
        names.UPDATE_SUBMIT,
        payload,
        start_workflow_operation=start,
        id=update_id or uuid.uuid4().hex,
        result_type=SubmitReceipt,
        rpc_timeout=patience,
    )
    return receipt, await start.workflow_handle()


def rename(stack: Stack, table: str, name: str) -> None:
    """Rename a table of the ledger, to make it unavailable or to bring it back."""
    with stack.database.writing() as connection:
        connection.exec_driver_sql(f"ALTER TABLE {table} RENAME TO {name}")


async def until_looked_up(stack: Stack, run_id: str) -> None:
    """Wait until the look into the ledger is a scheduled activity."""
    async with asyncio.timeout(60):
        while True:
            with suppress(RPCError):  # it is not started yet
                if (names.FIND_EARLIER_RUN, "scheduled") in activities_in(await stack.events(run_id)):
                    return
            await asyncio.sleep(0.05)
