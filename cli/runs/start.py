"""From a checked request to a run: started, or attached to where it exists already."""

import asyncio
import uuid
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from temporalio.client import (
    Client,
    WithStartWorkflowOperation,
    WorkflowHandle,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError

from cli.errors import RequestRefused
from cli.session import Session
from gpt_image_runs.client.start_options import describe_start
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.fingerprints import mark_content, name_differences
from gpt_image_runs.contracts.names import FINGERPRINT, SUBMISSION
from gpt_image_runs.contracts.problems import Problem, describe_problems
from gpt_image_runs.contracts.request import ImageRequest
from gpt_image_runs.contracts.request_parsing import read_request
from gpt_image_runs.contracts.result import RunResult
from gpt_image_runs.contracts.submissions import SubmitReceipt
from gpt_image_runs.images.inputs import InputsRefused, load_inputs
from gpt_image_runs.images.ownership import PictureOwners
from gpt_image_runs.provider.catalog import Catalogue
from gpt_image_runs.provider.request_rules import CheckedPayload, check_payload, fingerprint
from gpt_image_runs.temporal.connection import has_pollers, read_first_argument

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


@dataclass(frozen=True, slots=True)
class CheckedRequest:
    """A payload that may run, with the id that it runs under. `warnings` are sentences for the person who sent it."""

    payload: dict[str, Any]
    request: ImageRequest
    model: str
    fingerprint: str
    warnings: tuple[str, ...]

    @property
    def run_id(self) -> str:
        """The id of the run, which is that of its workflow."""
        return names.run_id_for(self.request.tenant, self.request.request_id or "")


async def check_request(
    payload: Any, session: Session, problems_before: tuple[Problem, ...] = ()
) -> CheckedRequest:
    """Everything that is wrong with a payload, at once, before anything is started.

    `problems_before` are of fields that the caller could not even fill in.

    Raises:
        RequestRefused: with all problems.
        StoreUnavailable: the pictures to edit could not be read.
    """
    if isinstance(payload, dict) and payload.get("request_id") is None:
        payload = {**payload, "request_id": uuid.uuid4().hex}
    checked = check_content(payload, session)
    known = {problem.field for problem in problems_before}
    problems = (
        *(problem for problem in checked.problems if problem.field not in known),
        *problems_before,
        *(await check_pictures(payload, session, known)),
    )
    if problems or checked.request is None or checked.resolved is None:
        raise RequestRefused(describe_problems(problems), problems)
    return CheckedRequest(
        payload,
        checked.request,
        checked.resolved.model,
        fingerprint(checked.request),
        checked.warnings,
    )


def check_content(payload: Any, session: Session) -> CheckedPayload:
    """What can be known of a payload without its pictures, by the rules of the provider that applies here."""
    return check_payload(
        payload,
        Catalogue.load(session.provider),
        datetime.now(UTC).date(),
        replace_retired=session.settings.retired_models == "replace",
    )


async def check_pictures(payload: Any, session: Session, known: set[str]) -> tuple[Problem, ...]:
    """What is wrong with the pictures that the payload refers to, apart from `known`."""
    sound = read_request(payload).sound
    if sound is None or not sound.inputs():
        return ()
    try:
        owners = PictureOwners(session.open_store(), shared=session.settings.shared_images)
        await load_inputs(sound, owners.store_of(sound.tenant))
    except InputsRefused as refused:
        return tuple(problem for problem in refused.problems if problem.field not in known)
    return ()


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
