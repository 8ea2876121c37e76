"""Submitting as docs/integrate.md says it, by names and plain JSON. No test here."""

import uuid
from datetime import timedelta
from typing import Any

from temporalio.client import Client, WithStartWorkflowOperation, WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy

from contracts import names
from contracts.submissions import SubmitReceipt


async def submit(
    client: Client,
    payload: Any,
    run_id: str,
    *,
    update_id: str | None = None,
    memo: dict[str, Any] | None = None,
    patience: timedelta | None = None,
) -> tuple[SubmitReceipt, WorkflowHandle[Any, Any]]:
    """One submission: its receipt, and the workflow that it is of."""
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
