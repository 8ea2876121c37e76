"""Check a request and start its run, or attach to the existing one."""

import asyncio
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from temporalio.client import (
    Client,
    WorkflowExecutionStatus,
)
from temporalio.common import WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError

from cli.errors import CommandFailed, RequestRefused
from cli.session import Session
from gpt_image_runs.client.errors import RunConflict, RunRefused
from gpt_image_runs.client.runs import RunHandle, compare_content, wait_for_end
from gpt_image_runs.client.submissions import build_start_options, check_receipt, request_receipt
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.fingerprints import mark_content, name_differences
from gpt_image_runs.contracts.names import SUBMISSION
from gpt_image_runs.contracts.problems import Problem, describe_problems
from gpt_image_runs.contracts.request import ImageRequest, find_run_id
from gpt_image_runs.contracts.request_parsing import read_request
from gpt_image_runs.contracts.result import RunResult
from gpt_image_runs.contracts.submissions import SubmitReceipt
from gpt_image_runs.images.inputs import InputsRefused, load_inputs
from gpt_image_runs.images.ownership import PictureOwners
from gpt_image_runs.provider.catalog import Catalog
from gpt_image_runs.provider.request_rules import CheckedPayload, check_payload
from gpt_image_runs.temporal.connection import has_pollers

# A receipt takes milliseconds. After this time the worker is busy, gone or without a ledger, and the user is told.
PATIENCE = timedelta(seconds=3)


@dataclass(frozen=True, slots=True)
class CheckedRequest:
    """A valid payload and the id of its run. `warnings` are sentences for the person who sent it."""

    payload: dict[str, Any]
    request: ImageRequest
    model: str
    warnings: tuple[str, ...]

    @property
    def run_id(self) -> str:
        """The id of the run, which is that of its workflow."""
        return names.run_id_for(self.request.tenant, self.request.request_id or "")


async def check_request(
    payload: Any, session: Session, problems_before: tuple[Problem, ...] = ()
) -> CheckedRequest:
    """Check a payload completely, before anything is started.

    `problems_before` are those of fields that the caller could not fill in.

    Raises:
        RequestRefused: with all problems.
        StoreUnavailable: the images to edit could not be read.
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
        checked.warnings,
    )


def check_content(payload: Any, session: Session) -> CheckedPayload:
    """Check a payload, except for its images, by the rules of the provider that applies here."""
    return check_payload(
        payload,
        Catalog.load(session.provider),
        datetime.now(UTC).date(),
        replace_retired=session.settings.retired_models == "replace",
    )


async def check_pictures(payload: Any, session: Session, known: set[str]) -> tuple[Problem, ...]:
    """Check the images that the payload refers to; problems of the fields in `known` are left out."""
    sound = read_request(payload).sound
    if sound is None or not sound.inputs():
        return ()
    try:
        owners = PictureOwners(session.open_store(), shared=session.settings.shared_images)
        await load_inputs(sound, owners.store_of(sound.tenant))
    except InputsRefused as refused:
        return tuple(problem for problem in refused.problems if problem.field not in known)
    return ()


# How long to ask again while an execution of other content is under way. One that is not the owner's ends in milliseconds, but may
# wait for a place at the provider first.
MAX_DOUBT = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class StartedRun:
    """A run that exists. `attached` means that another call started it; `ended`, that it had already ended.

    `receipt` is the worker's answer; None if none has answered yet, or if the run has ended.
    """

    run_id: str
    handle: RunHandle
    attached: bool
    receipt: SubmitReceipt | None = None
    ended: bool = False


@dataclass(frozen=True, slots=True)
class _OtherExecution:
    """An execution under the run's id whose content differs from the request's, or is not known."""

    handle: RunHandle
    status: WorkflowExecutionStatus | None
    first: ImageRequest | None


async def start_run(client: Client, checked: CheckedRequest, *, patience: timedelta = PATIENCE) -> StartedRun:
    """Start the run, or attach to the one with the same id: it is one run and one bill, however often it is submitted.

    A run that failed before is run again; an image that it may have paid for is found, not bought again. If no worker gives a
    receipt within `patience`, the run is started without one and waits for a worker. While an execution of other content is
    running, its content does not show which content owns the request id: the worker, which knows the ledger, is asked again.

    Raises:
        RequestRefused: the worker refuses it, or the request id is already used for other content.
        CommandFailed: it could not be determined whose content the request id belongs to.
        RPCError: Temporal did not accept it.
    """
    clock = asyncio.get_running_loop().time
    ends_at = clock() + MAX_DOUBT.total_seconds()
    reuse = WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY
    while True:
        has_worker = await has_pollers(client, (names.RUNS_QUEUE,))
        found = await _start_once(client, checked, patience if has_worker else None, reuse)
        if isinstance(found, StartedRun):
            return found
        if found.status is WorkflowExecutionStatus.COMPLETED:
            # A completed run is billed, so that its content owns the request id of its bill. That need not be the workflow's.
            if found.first and find_run_id(found.first, checked.run_id) == checked.run_id:
                raise _tell_conflict(checked, found.first)
            reuse = WorkflowIDReusePolicy.ALLOW_DUPLICATE
        is_open = found.status is WorkflowExecutionStatus.RUNNING
        if clock() >= ends_at or (is_open and not has_worker):
            raise _tell_doubt(checked, found.first)
        if is_open:
            await wait_for_end(found.handle)


async def check_result_is_own(client: Client, run: StartedRun, checked: CheckedRequest) -> None:
    """Check a result that was awaited without a receipt: the run may have used the content that owns the request id.

    Raises:
        RequestRefused: it did, and the result is not the request's.
        RPCError: Temporal cannot be reached.
    """
    if run.receipt is None and isinstance(
        await _compare(client, _pin(client, run.handle), checked), _OtherExecution
    ):
        raise _tell_conflict(checked, None)


async def _start_once(
    client: Client, checked: CheckedRequest, patience: timedelta | None, reuse: WorkflowIDReusePolicy
) -> StartedRun | _OtherExecution:
    """Start the run once. A receipt is requested only if `patience` is given."""
    submission = uuid.uuid4().hex
    options = build_start_options(
        checked.request, checked.run_id, submission=submission, model=checked.model, reuse=reuse
    )
    if patience is not None:
        answer = await request_receipt(client, checked.payload, submission, patience, **options)
        if answer.receipt and answer.handle:
            return _read_receipt(checked, answer.receipt, answer.handle)
        if answer.handle:
            found = await _compare(client, _pin(client, answer.handle), checked)
            if isinstance(found, _OtherExecution):
                return found
    return await _start_without_receipt(client, checked, submission, options)


def _read_receipt(checked: CheckedRequest, receipt: SubmitReceipt, handle: RunHandle) -> StartedRun:
    try:
        check_receipt(receipt)
    except RunRefused as refused:
        raise RequestRefused(str(refused), refused.problems, run_id=refused.run_id) from None
    except RunConflict as conflict:
        fields = [difference.field for difference in conflict.differences]
        raise RequestRefused(str(conflict), run_id=conflict.run_id, differences=fields) from None
    return StartedRun(checked.run_id, handle, receipt.status == "attached", receipt)


async def _start_without_receipt(
    client: Client, checked: CheckedRequest, submission: str, options: dict[str, Any]
) -> StartedRun | _OtherExecution:
    try:
        handle: RunHandle = await client.start_workflow(names.WORKFLOW, checked.payload, **options)
    except WorkflowAlreadyStartedError as done:
        handle = client.get_workflow_handle(checked.run_id, run_id=done.run_id, result_type=RunResult)
        return await _compare(client, handle, checked, submission, ended=True)
    return await _compare(client, _pin(client, handle), checked, submission)


async def _compare(
    client: Client, handle: RunHandle, checked: CheckedRequest, submission: str = "", *, ended: bool = False
) -> StartedRun | _OtherExecution:
    """Return the execution as a run of the request if their content is the same."""
    described = await handle.describe()
    content = await compare_content(client, described, checked.request, checked.run_id)
    if not content.is_same:
        return _OtherExecution(handle, described.status, content.first)
    memo = await described.memo()
    return StartedRun(checked.run_id, handle, memo.get(SUBMISSION) != submission, ended=ended)


def _pin(client: Client, handle: RunHandle) -> RunHandle:
    """Return a handle of exactly this execution. The one that a start returns refers to the latest execution of its id."""
    return client.get_workflow_handle(handle.id, run_id=handle.result_run_id, result_type=RunResult)


def _tell_conflict(checked: CheckedRequest, known: ImageRequest | None) -> RequestRefused:
    differences = _name_differences(checked, known)
    other = f" (other in {', '.join(differences)})" if differences else ""
    return RequestRefused(
        f"The request id {checked.request.request_id} of tenant {checked.request.tenant} stands for other content"
        f" already{other}, and nothing was started. Choose a new request id for a new image, or repeat the first"
        " content for its result.",
        run_id=checked.run_id,
        differences=list(differences),
    )


def _tell_doubt(checked: CheckedRequest, known: ImageRequest | None) -> CommandFailed:
    differences = _name_differences(checked, known)
    other = f" (other in {', '.join(differences)})" if differences else ""
    return CommandFailed(
        f"An execution of {checked.run_id} that was started with other content{other} is running, and no worker has said"
        " which content the request id belongs to. Nothing was started for this request. Submit it again later, with the same"
        " request id; `python starter.py doctor` shows whether workers run.",
        run_id=checked.run_id,
        differences=list(differences),
    )


def _name_differences(checked: CheckedRequest, known: ImageRequest | None) -> tuple[str, ...]:
    if known is None:
        return ()
    return name_differences(mark_content("", known), mark_content("", checked.request))
