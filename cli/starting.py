"""From a checked request to a run: started, or attached to where it exists already."""

import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from temporalio.client import Client, WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError

from cli.failures import RequestRefused
from cli.receipts import PATIENCE, start_for_receipt
from cli.request_check import CheckedRequest
from contracts import names
from contracts.content_marks import mark_content, name_differences
from contracts.reading import read_request
from contracts.result import RunResult
from contracts.submissions import SubmitReceipt
from imaging.admission import fingerprint
from runtime.temporal import has_pollers
from runtime.workflow_input import read_first_argument
from workflows.run_start import FINGERPRINT, SUBMISSION, describe_start

RunHandle = WorkflowHandle[Any, RunResult]


@dataclass(frozen=True, slots=True)
class StartedRun:
    """A run that exists. `attached` means that somebody else, or an earlier call, has started it; `ended`, that it was done by then.

    `receipt` is what the worker says of it, None where none has answered yet, or the run is done.
    """

    run_id: str
    handle: RunHandle
    attached: bool
    receipt: SubmitReceipt | None = None
    ended: bool = False


async def start_run(client: Client, checked: CheckedRequest, *, patience: timedelta = PATIENCE) -> StartedRun:
    """Starts the run, or attaches to the one of the same id: it is one run and one bill, however often it is submitted.

    A run that failed before is carried out again; what it may have paid for is found, not bought again. Where no worker gives
    a receipt within `patience`, the run is started without, and waits for one.

    Raises:
        RequestRefused: the worker refuses it, or the same request id stands for other content.
        RPCError: Temporal did not take it.
    """
    submission = uuid.uuid4().hex
    options = _describe_options(checked, submission)
    if await has_pollers(client, (names.RUNS_QUEUE,)):
        answer = await start_for_receipt(client, checked.payload, submission, patience, **options)
        if answer is not None:
            return _read_receipt(checked, *answer)
    return await _start_without_receipt(client, checked, submission, options)


def _describe_options(checked: CheckedRequest, submission: str) -> dict[str, Any]:
    start = describe_start(
        checked.request, model=checked.model, fingerprint=checked.fingerprint, submission=submission
    )
    return {
        "id": checked.run_id,
        "task_queue": names.RUNS_QUEUE,
        "result_type": RunResult,
        "id_conflict_policy": WorkflowIDConflictPolicy.USE_EXISTING,
        "id_reuse_policy": WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY,
        "memo": start.memo,
        "search_attributes": start.search_attributes,
        "static_summary": start.static_summary,
        "priority": start.priority,
    }


def _read_receipt(checked: CheckedRequest, receipt: SubmitReceipt, handle: RunHandle) -> StartedRun:
    if receipt.status == "refused":
        raise RequestRefused(receipt.message, receipt.problems, run_id=receipt.run_id)
    if receipt.status == "conflict":
        raise RequestRefused(
            receipt.message,
            run_id=receipt.run_id,
            differences=[difference.field for difference in receipt.differences],
        )
    return StartedRun(checked.run_id, handle, receipt.status == "attached", receipt)


async def _start_without_receipt(
    client: Client, checked: CheckedRequest, submission: str, options: dict[str, Any]
) -> StartedRun:
    ended = False
    try:
        handle: RunHandle = await client.start_workflow(names.WORKFLOW, checked.payload, **options)
    except WorkflowAlreadyStartedError as done:
        ended = True
        handle = client.get_workflow_handle(checked.run_id, run_id=done.run_id, result_type=RunResult)
    found = await (await handle.describe()).memo()
    attached = found.get(SUBMISSION) != submission
    if attached:
        await _refuse_other_content(client, handle, checked, found.get(FINGERPRINT))
    return StartedRun(checked.run_id, handle, attached, ended=ended)


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
