"""Submit a request and get its receipt: a run is started or attached to, and answers before anything is sent."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import uuid4

from temporalio.client import (
    Client,
    WithStartWorkflowOperation,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from gpt_image_runs.client.errors import (
    NoAnswer,
    RunConflict,
    RunRefused,
    temporal_errors,
    wait_at_most,
)
from gpt_image_runs.client.runs import (
    ANSWER_TIME,
    LOOK_AGAIN_SECONDS,
    RunHandle,
    await_result,
    cancel_run,
    query_status,
    wait_for_end,
)
from gpt_image_runs.client.start_options import describe_start
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.request import ImageRequest
from gpt_image_runs.contracts.result import RunResult, RunStatus
from gpt_image_runs.contracts.submissions import SubmitReceipt

# The SDK has tried for ten seconds by then.
_CROWDED_SECONDS = 0.5


class Answer(NamedTuple):
    """The answer to a submission.

    `receipt` is None if there is none. With a `handle`, that execution refuses to give one, for `reason`. Without a handle there
    was no answer, or an error, which is the `reason`, and it is not known whether the run was started.
    """

    receipt: SubmitReceipt | None
    handle: RunHandle | None
    reason: str = ""


def build_start_options(
    request: ImageRequest,
    run_id: str,
    *,
    submission: str,
    model: str | None = None,
    reuse: WorkflowIDReusePolicy = WorkflowIDReusePolicy.ALLOW_DUPLICATE,
) -> dict[str, Any]:
    """Build the options of `start_workflow` for a run, so that it is attached to if it is already running."""
    start = describe_start(request, submission=submission, model=model)
    return {
        "id": run_id,
        "task_queue": names.RUNS_QUEUE,
        "result_type": RunResult,
        "id_conflict_policy": WorkflowIDConflictPolicy.USE_EXISTING,
        "id_reuse_policy": reuse,
        "memo": start.memo,
        "search_attributes": start.search_attributes,
        "static_summary": start.static_summary,
        "priority": start.priority,
    }


async def request_receipt(
    temporal: Client, payload: Any, submission: str, max_wait: timedelta, **start: Any
) -> Answer:
    """Start a run, or attach to it, and request its receipt in the same round trip. `start` is for `start_workflow`.

    Raises:
        RPCError: Temporal did not accept it.
    """
    operation: WithStartWorkflowOperation[Any, RunResult] = WithStartWorkflowOperation(
        names.WORKFLOW, payload, **start
    )
    asking = temporal.execute_update_with_start_workflow(
        names.UPDATE_SUBMIT,
        payload,
        start_workflow_operation=operation,
        id=submission,
        result_type=SubmitReceipt,
    )
    try:
        receipt: SubmitReceipt = await wait_at_most(max_wait, asking)
    except (
        TimeoutError,
        WorkflowAlreadyStartedError,
        WorkflowUpdateFailedError,
        WorkflowUpdateRPCTimeoutOrCancelledError,
    ) as error:
        # The operation has the same error or a handle: asyncio complains of errors that nobody has fetched.
        with suppress(WorkflowAlreadyStartedError, RPCError, asyncio.CancelledError):
            handle = await operation.workflow_handle()
            if _is_denial(error):
                return Answer(None, handle, _read_reason(error))
        return Answer(None, None, _read_reason(error))
    except RPCError:
        with suppress(WorkflowAlreadyStartedError, RPCError):
            await operation.workflow_handle()
        raise
    return Answer(receipt, await operation.workflow_handle())


def _is_denial(error: BaseException) -> bool:
    cause = error.cause if isinstance(error, WorkflowUpdateFailedError) else None
    return isinstance(cause, ApplicationError) and cause.type == names.NO_RECEIPT


def _read_reason(error: BaseException) -> str:
    return str(error.cause) if isinstance(error, WorkflowUpdateFailedError) else ""


def check_receipt(receipt: SubmitReceipt) -> None:
    """Check that the run's result will be the request's own.

    Raises:
        RunRefused: the request is refused.
        RunConflict: the request id is already used for other content.
    """
    if receipt.status == "refused":
        raise RunRefused(receipt.message, run_id=receipt.run_id, problems=receipt.problems)
    if receipt.status == "conflict":
        raise RunConflict(
            receipt.message,
            run_id=receipt.run_id,
            differences=receipt.differences,
            problems=receipt.problems,
        )


async def submit_request(
    temporal: Client, request: ImageRequest, run_id: str, max_wait: timedelta
) -> "Submission":
    """Submit a request until there is a receipt. See `Client.submit`."""
    clock = asyncio.get_running_loop().time
    ends_at = clock() + max_wait.total_seconds()
    reason, submission = "", uuid4().hex
    while True:
        options = build_start_options(request, run_id, submission=submission)
        left = timedelta(seconds=max(ends_at - clock(), 0))
        with temporal_errors(temporal):
            try:
                answer = await request_receipt(temporal, request, submission, left, **options)
            except RPCError as error:
                if not _is_crowded(error):
                    raise
                reason = reason or error.message
                await asyncio.sleep(_CROWDED_SECONDS)
                continue
        if answer.receipt and answer.handle:
            check_receipt(answer.receipt)
            return Submission(run_id, answer.receipt, answer.handle, temporal)
        reason = answer.reason or reason
        if answer.handle is None or clock() >= ends_at:
            raise NoAnswer(_describe_silence(run_id, reason, max_wait), run_id=run_id)
        # Temporal answers an id that it knows with what it has answered before.
        submission = uuid4().hex
        await wait_for_end(answer.handle, min(LOOK_AGAIN_SECONDS, ends_at - clock()))


def _is_crowded(error: RPCError) -> bool:
    """Return whether this submission was rejected because too many for this run are waiting: Temporal allows ten."""
    return error.status is RPCStatusCode.RESOURCE_EXHAUSTED or "update was aborted" in error.message


def _describe_silence(run_id: str, reason: str, max_wait: timedelta) -> str:
    seconds = f"{max_wait.total_seconds():g} s"
    if reason:
        return f"There was no receipt for {run_id} within {seconds}: {reason}"
    return (
        f"No worker answered for {run_id} within {seconds}. The run may have been started, and then waits for a worker. Submit the"
        " same request again with the same request id: it is one run and one bill."
    )


@dataclass(frozen=True, slots=True)
class Submission:
    """A request that was accepted, or attached to the existing run with the same content.

    `receipt` says which, what it can cost at most, and what to be warned of.
    """

    run_id: str
    receipt: SubmitReceipt
    handle: RunHandle = field(repr=False)
    temporal: Client = field(repr=False)

    async def result(self) -> RunResult:
        """Wait for the run to end and return its images and its bill.

        Raises:
            RunFailed: it ended without a result.
            RunRefused: it was refused after its receipt, for example with `BudgetExceeded`.
            TemporalUnavailable: the connection to Temporal was lost. The run continues.
        """
        return await await_result(self.temporal, self.handle)

    async def status(self, *, max_wait: timedelta = ANSWER_TIME) -> RunStatus:
        """Return where the run is. See `Client.status`."""
        return await query_status(self.temporal, self.handle, max_wait)

    async def cancel(self) -> None:
        """Cancel the run. See `Client.cancel`."""
        await cancel_run(self.temporal, self.handle)
