"""From a checked request to a run: started, or attached to where it exists already."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from temporalio.client import Client, WorkflowHandle
from temporalio.common import (
    Priority,
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import WorkflowAlreadyStartedError

from cli.failures import RequestRefused
from cli.request_check import CheckedRequest
from contracts import names
from contracts.reading import read_request
from contracts.result import RunResult
from imaging.admission import fingerprint
from workflows.details import describe_call

RunHandle = WorkflowHandle[Any, RunResult]

_FINGERPRINT = "fingerprint"
_SUBMISSION = "submission"


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
    memo = {_FINGERPRINT: checked.fingerprint, _SUBMISSION: submission}
    try:
        handle = await _start(client, checked, memo)
    except WorkflowAlreadyStartedError as done:
        handle = client.get_workflow_handle(checked.run_id, run_id=done.run_id, result_type=RunResult)
    found = await (await handle.describe()).memo()
    attached = found.get(_SUBMISSION) != submission
    if attached:
        known = found.get(_FINGERPRINT) or await _fingerprint_input(client, handle)
        _refuse_other_content(checked, known)
    return StartedRun(checked.run_id, handle, attached)


async def _start(client: Client, checked: CheckedRequest, memo: Mapping[str, str]) -> RunHandle:
    request = checked.request
    return await client.start_workflow(
        names.WORKFLOW,
        checked.payload,
        id=checked.run_id,
        task_queue=names.RUNS_QUEUE,
        result_type=RunResult,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY,
        memo=memo,
        search_attributes=TypedSearchAttributes(
            [
                SearchAttributePair(names.TENANT, request.tenant),
                SearchAttributePair(names.MODEL, checked.model),
                SearchAttributePair(names.OPERATION, request.operation),
            ]
        ),
        static_summary=describe_call(
            checked.model, request.operation, request.size, request.quality, request.image_count
        ),
        # Tenants share a backlog fairly: the server takes turns between these keys.
        priority=Priority(fairness_key=request.tenant),
    )


async def _fingerprint_input(client: Client, handle: RunHandle) -> str | None:
    """The fingerprint of what a run was started with, by a client that left none. None where it was no request."""
    async for event in handle.fetch_history_events(page_size=1):
        given = event.workflow_execution_started_event_attributes.input.payloads
        payload, *_ = [*await client.data_converter.decode(given), None]
        known = read_request(payload).request
        return fingerprint(known) if known else None
    return None


def _refuse_other_content(checked: CheckedRequest, known: str | None) -> None:
    if known == checked.fingerprint:
        return
    raise RequestRefused(
        f"The request id {checked.request.request_id} of tenant {checked.request.tenant} stands for other content"
        " already, and nothing was started. Choose a new request id for a new picture, or repeat the first content"
        " for its result.",
        run_id=checked.run_id,
    )
