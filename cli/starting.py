"""From a checked request to a run: started, or attached to where it exists already."""

import uuid
from dataclasses import dataclass
from typing import Any

from temporalio.client import Client, WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError

from cli.failures import RequestRefused
from cli.request_check import CheckedRequest
from contracts import names
from contracts.content_marks import mark_content, name_differences
from contracts.reading import read_request
from contracts.result import RunResult
from imaging.admission import fingerprint
from runtime.workflow_input import read_first_argument
from workflows.run_start import FINGERPRINT, SUBMISSION, describe_start

RunHandle = WorkflowHandle[Any, RunResult]


@dataclass(frozen=True, slots=True)
class StartedRun:
    """A run that exists. `attached` means that somebody else, or an earlier call, has started it."""

    run_id: str
    handle: RunHandle
    attached: bool


async def start_run(client: Client, checked: CheckedRequest) -> StartedRun:
    """Starts the run, or attaches to the one of the same id: it is one run and one bill, however often it is submitted.

    A run that failed before is carried out again; what it may have paid for is found, not bought again.

    Raises:
        RequestRefused: the same request id stands for other content.
        RPCError: Temporal did not take it.
    """
    submission = uuid.uuid4().hex
    try:
        handle = await _start(client, checked, submission)
    except WorkflowAlreadyStartedError as done:
        handle = client.get_workflow_handle(checked.run_id, run_id=done.run_id, result_type=RunResult)
    found = await (await handle.describe()).memo()
    attached = found.get(SUBMISSION) != submission
    if attached:
        await _refuse_other_content(client, handle, checked, found.get(FINGERPRINT))
    return StartedRun(checked.run_id, handle, attached)


async def _start(client: Client, checked: CheckedRequest, submission: str) -> RunHandle:
    start = describe_start(
        checked.request, model=checked.model, fingerprint=checked.fingerprint, submission=submission
    )
    return await client.start_workflow(
        names.WORKFLOW,
        checked.payload,
        id=checked.run_id,
        task_queue=names.RUNS_QUEUE,
        result_type=RunResult,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY,
        memo=start.memo,
        search_attributes=start.search_attributes,
        static_summary=start.static_summary,
        priority=start.priority,
    )


async def _refuse_other_content(
    client: Client, handle: RunHandle, checked: CheckedRequest, known: str | None
) -> None:
    """`known` is the fingerprint that the run's starter has left, None where it left none."""
    if known == checked.fingerprint:
        return
    first = read_request(await read_first_argument(client, handle)).request
    if first and fingerprint(first) == checked.fingerprint:
        return
    differences = (
        name_differences(mark_content("", first), mark_content("", checked.request)) if first else ()
    )
    other = f" (other in {', '.join(differences)})" if differences else ""
    raise RequestRefused(
        f"The request id {checked.request.request_id} of tenant {checked.request.tenant} stands for other content"
        f" already{other}, and nothing was started. Choose a new request id for a new picture, or repeat the first"
        " content for its result.",
        run_id=checked.run_id,
        differences=list(differences),
    )
