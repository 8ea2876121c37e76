"""Operations on an existing run: query its status, wait for its end, decide about it, cancel it."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, NamedTuple

from temporalio.client import (
    Client,
    WorkflowExecutionDescription,
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowUpdateFailedError,
)
from temporalio.exceptions import ApplicationError

from gpt_image_runs.client.errors import (
    ClientError,
    DecisionRefused,
    NoAnswer,
    RunNotFound,
    read_failure,
    temporal_errors,
    wait_at_most,
)
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.decisions import Decision, DecisionTaken
from gpt_image_runs.contracts.fingerprints import fingerprint
from gpt_image_runs.contracts.names import FINGERPRINT
from gpt_image_runs.contracts.request import ImageRequest, find_run_id
from gpt_image_runs.contracts.request_parsing import read_request
from gpt_image_runs.contracts.result import RunResult, RunStatus

RunHandle = WorkflowHandle[Any, RunResult]

# How long to wait for a worker unless the caller says otherwise. A free worker answers in milliseconds.
ANSWER_TIME = timedelta(seconds=30)
LOOK_AGAIN_SECONDS = 1.0


async def await_result(temporal: Client, handle: RunHandle) -> RunResult:
    """Wait for a run to end and return its result. See `Submission.result`."""
    with temporal_errors(temporal, not_found=unknown_run_error(handle.id)):
        try:
            return await handle.result()
        except WorkflowFailureError as error:
            raise read_failure(handle.id, error.cause) from error


async def query_status(temporal: Client, handle: RunHandle, max_wait: timedelta) -> RunStatus:
    """Return where a run is. See `Client.status`."""
    silence = NoAnswer(
        f"No worker answered within {max_wait.total_seconds():g} s, so it is not known where {handle.id} is. It goes on when a"
        " worker polls.",
        run_id=handle.id,
    )
    with temporal_errors(temporal, not_found=unknown_run_error(handle.id), no_answer=silence):
        asking = handle.query(names.QUERY_STATUS, result_type=RunStatus, rpc_timeout=max_wait)
        status: RunStatus = await wait_at_most(max_wait, asking)
        return status


async def send_decision(handle: RunHandle, decision: Decision) -> DecisionTaken:
    """Send a decision about a held run and wait for the worker's answer.

    Raises:
        DecisionRefused: the run is not waiting for a decision.
        ClientError: the worker could not accept it.
        RPCError: Temporal did not accept it. For a run that has ended, its status is NOT_FOUND.
    """
    try:
        taken: DecisionTaken = await handle.execute_update(
            names.UPDATE_DECIDE, decision, result_type=DecisionTaken
        )
    except WorkflowUpdateFailedError as error:
        cause = error.cause
        if isinstance(cause, ApplicationError) and cause.type == names.DECISION_REFUSED:
            raise DecisionRefused(cause.message, run_id=handle.id) from error
        raise ClientError(f"The worker could not take the decision: {cause}.") from error
    return taken


async def cancel_run(temporal: Client, handle: RunHandle) -> None:
    """Cancel a run. See `Client.cancel`."""
    with temporal_errors(temporal, not_found=unknown_run_error(handle.id)):
        await handle.cancel()


def unknown_run_error(run_id: str) -> RunNotFound:
    """Build the error about a run that Temporal does not know."""
    return RunNotFound(
        f"Temporal does not know the run {run_id}. Check the id (image:TENANT:REQUEST_ID). A run that ended long ago is forgotten:"
        " submit the same request again for its result, and nothing is paid.",
        run_id=run_id,
    )


async def wait_for_end(handle: RunHandle, max_seconds: float = LOOK_AGAIN_SECONDS) -> None:
    """Wait until an execution has ended in any way, at most `max_seconds`."""
    ending = asyncio.ensure_future(handle.result(follow_runs=False))
    try:
        done, _ = await asyncio.wait({ending}, timeout=max_seconds)
        if done:
            ending.exception()
    finally:
        ending.cancel()


class WorkflowStart(NamedTuple):
    """A workflow's first argument, decoded as plain JSON (None without one), and its memo at the start."""

    argument: Any
    memo: dict[str, Any]


async def read_start(client: Client, handle: WorkflowHandle[Any, Any]) -> WorkflowStart:
    """Read what an execution was started with.

    Raises:
        RPCError: the server cannot be reached, or does not know the execution.
    """
    async for event in handle.fetch_history_events(page_size=1):
        started = event.workflow_execution_started_event_attributes
        argument, *_ = [*await client.data_converter.decode(started.input.payloads), None]
        fields = started.memo.fields
        values = await client.data_converter.decode(list(fields.values()))
        return WorkflowStart(argument, dict(zip(fields, values, strict=True)))
    return WorkflowStart(None, {})


class ComparedContent(NamedTuple):
    """Whether an execution runs a request's content. `first` is what it was started with, if that was read."""

    is_same: bool
    first: ImageRequest | None = None


async def compare_content(
    temporal: Client, described: WorkflowExecutionDescription, request: ImageRequest, run_id: str
) -> ComparedContent:
    """Compare the content of an execution with that of a request for the run with this id.

    Raises:
        RPCError: the server cannot be reached.
    """
    wanted, memo = fingerprint(request), await described.memo()
    if _has_content(wanted, memo, {}, None):
        return ComparedContent(is_same=True)
    start = await read_start(temporal, temporal.get_workflow_handle(described.id, run_id=described.run_id))
    first = read_request(start.argument).request
    is_of_run = first and find_run_id(first, run_id) == run_id
    known = fingerprint(first) if first and is_of_run else None
    return ComparedContent(_has_content(wanted, memo, start.memo, known), first)


def _has_content(
    fingerprint: str, memo: Mapping[str, Any], memo_at_start: Mapping[str, Any], first: str | None
) -> bool:
    """Return whether an execution runs the content with this fingerprint.

    `first` is the fingerprint of the execution's argument. It counts unless the execution has changed its own memo: it then
    runs the content that owns the request id, and not its argument.
    """
    known = memo.get(FINGERPRINT)
    return known == fingerprint or (first == fingerprint and known == memo_at_start.get(FINGERPRINT))
