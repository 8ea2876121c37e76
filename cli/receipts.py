"""The receipt of a request, from a worker that answers at once: without one a run is started all the same."""

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import Any

from temporalio.client import (
    Client,
    WithStartWorkflowOperation,
    WorkflowHandle,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError

from contracts import names
from contracts.submissions import SubmitReceipt

PATIENCE = timedelta(seconds=3)
"""A receipt takes some milliseconds. After that a worker is busy, gone, or has no ledger, and who waits for the run is told so."""


async def start_for_receipt(
    client: Client, payload: dict[str, Any], submission: str, patience: timedelta, **start: Any
) -> tuple[SubmitReceipt, WorkflowHandle[Any, Any]] | None:
    """Starts a run, or attaches to it, and asks for its receipt in the same round trip. `start` is for `start_workflow`.

    None where there is no receipt: the run is done, no worker answers, or the one that does knows no receipts. Then nothing is
    known, not even whether the run was started.

    Raises:
        RPCError: Temporal did not take it.
    """
    operation: WithStartWorkflowOperation[Any, Any] = WithStartWorkflowOperation(
        names.WORKFLOW, payload, **start
    )
    try:
        receipt: SubmitReceipt = await client.execute_update_with_start_workflow(
            names.UPDATE_SUBMIT,
            payload,
            start_workflow_operation=operation,
            id=submission,
            result_type=SubmitReceipt,
            rpc_timeout=patience,
        )
    except (
        WorkflowAlreadyStartedError,
        WorkflowUpdateFailedError,
        WorkflowUpdateRPCTimeoutOrCancelledError,
    ) as none:
        # The operation has the same error or a handle: asyncio complains of errors that nobody has fetched.
        with suppress(WorkflowAlreadyStartedError, RPCError, asyncio.CancelledError):
            await operation.workflow_handle()
        if isinstance(none.__cause__, asyncio.CancelledError):
            raise asyncio.CancelledError from None  # Ctrl-C, which the SDK turns into an error of its own
        return None
    return receipt, await operation.workflow_handle()
