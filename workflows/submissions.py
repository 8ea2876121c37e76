"""Answer the submissions of a run (Update `submit`) with receipts, before anything is sent and before the run ends."""

import asyncio
import json
from contextlib import suppress
from datetime import timedelta
from typing import Any, NamedTuple

from temporalio import workflow
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError, FailureError

from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.calls import Admission
from gpt_image_runs.contracts.names import SUBMISSION
from gpt_image_runs.contracts.problems import Problem, describe_problems
from gpt_image_runs.contracts.request import ImageRequest, find_request_id
from gpt_image_runs.contracts.request_parsing import read_request
from gpt_image_runs.contracts.submissions import (
    Difference,
    EarlierRun,
    EarlierRunInput,
    SubmitReceipt,
    compare_contents,
    mark_differences,
)
from workflows import retry_policies as policies
from workflows.activity_calls import check_payload, run_billing_activity
from workflows.payloads import NOTHING, read_argument, read_request_argument

_NOT_NOTIFIED = (
    "The run was started with another notify URL, or with none, and will not notify yours: await its result, or submit the"
    " request again after the run has ended."
)


def find_differences(
    running: ImageRequest, submitted: ImageRequest, workflow_id: str
) -> tuple[Difference, ...]:
    """Return the fields in which a submission differs from the run, including tenant and request id."""
    ids = [find_request_id(request, workflow_id) or "absent" for request in (running, submitted)]
    other_id = (Difference(field="request_id", earlier=ids[0], submitted=ids[1]),) if ids[0] != ids[1] else ()
    return (*compare_contents(running, submitted), *other_id)


def no_receipt_error(workflow_id: str) -> ApplicationError:
    """Return the error of a run that ended before its request id could be looked up."""
    message = f"The run {workflow_id} ended before it was known whether its request id was used before. Submit it again."
    return ApplicationError(message, type=names.NO_RECEIPT, non_retryable=True)


def no_receipt_for_owner_error(workflow_id: str) -> ApplicationError:
    """Return the error for the owner of the request id, while an execution with other content has it."""
    message = (
        f"The current execution of {workflow_id} was started with other content, fails with {names.RUN_CONFLICT} and has no"
        " result for this request. The request id belongs to this content: submit it again."
    )
    return ApplicationError(message, type=names.NO_RECEIPT, non_retryable=True)


def accepted_receipt(admission: Admission) -> SubmitReceipt:
    """Build the receipt of the submission that starts the run."""
    return SubmitReceipt(
        status="accepted",
        run_id=admission.run_id,
        message="The run is started, and its result is that of the workflow.",
        model=admission.model,
        price_ceiling_usd=admission.price_ceiling_usd,
        warnings=admission.warnings,
    )


def attached_receipt(admission: Admission, *, paid_before: bool, is_notified: bool = True) -> SubmitReceipt:
    """Build the receipt of a submission with the content of an existing run: one run and one bill.

    `is_notified` is False if the submission names a URL that this run does not notify.
    """
    message = (
        "The same request is paid already: the run answers with its pictures and its bill, and pays nothing more."
        if paid_before
        else "The same request is under way: it is one run and one bill, and its result is that of the workflow."
    )
    warnings = admission.warnings if is_notified else (*admission.warnings, _NOT_NOTIFIED)
    return accepted_receipt(admission).model_copy(
        update={"status": "attached", "message": message, "paid_before": paid_before, "warnings": warnings}
    )


def refused_receipt(run_id: str, problems: tuple[Problem, ...], warnings: tuple[str, ...]) -> SubmitReceipt:
    """Build the receipt of an invalid submission, with all its problems."""
    return SubmitReceipt(
        status="refused",
        run_id=run_id,
        message=describe_problems(problems),
        problems=problems,
        warnings=warnings,
    )


def conflict_with_run_receipt(run_id: str, differences: tuple[Difference, ...]) -> SubmitReceipt:
    """Build the receipt of a submission whose run is in progress with other content."""
    fields = ", ".join(difference.field for difference in differences)
    return SubmitReceipt(
        status="conflict",
        run_id=run_id,
        message=f"The run {run_id} stands for other content already (other in {fields}), and nothing is done for this one."
        " Choose a new request id for a new picture, or submit the first content again for its result.",
        differences=differences,
    )


def conflict_with_start_receipt(run_id: str, problems: tuple[Problem, ...]) -> SubmitReceipt:
    """Build the receipt of an invalid submission whose run was started with valid content, and is billed."""
    message = (
        f"The run {run_id} was started with other content than was submitted, and continues with it: await its result, or cancel it."
        f" Nothing is done for this submission, which is not valid. {describe_problems(problems)}"
    )
    return SubmitReceipt(status="conflict", run_id=run_id, message=message, problems=problems)


def conflict_with_refused_receipt(run_id: str) -> SubmitReceipt:
    """Build the receipt of a submission whose run has other content and is being refused."""
    message = (
        f"The run {run_id} in progress has other content, and is being refused. Nothing is done for this request: submit it"
        " again."
    )
    return SubmitReceipt(status="conflict", run_id=run_id, message=message)


def conflict_with_ledger_receipt(
    run_id: str, submitted: ImageRequest, conflict: str, fields: tuple[str, ...]
) -> SubmitReceipt:
    """Build the receipt of a submission whose request id was used before, with the ledger's differences."""
    return SubmitReceipt(
        status="conflict",
        run_id=run_id,
        message=conflict,
        differences=mark_differences(submitted, fields),
    )


# Temporal accepts 2,000 Updates of a run: there must be room for a decision, however often a held run is submitted.
MAX_SUBMISSIONS = 1_000
# Temporal terminates a run at 50 MiB of history, paid or not. A submission has up to 2 MB, and ten may come at once.
MAX_HISTORY_BYTES = 8_000_000

# How long after a run's start its starter's own Update may arrive: the server retries calls under contention.
STARTER_WAIT = timedelta(seconds=2)


class Successor(NamedTuple):
    """A submission that owns the request id, which an execution runs after its own content was refused."""

    payload: Any
    request: ImageRequest
    admission: Admission
    earlier: EarlierRun


class SubmissionHandler:
    """Answers the submissions of one run. Without submissions it adds nothing to the history.

    The ledger decides which content owns a request id, not the order of starts. If the run's own content is not the owner's,
    the receipts say so to both sides, and the execution ends or runs the owner's content (`find_successor`).
    """

    def __init__(self, workflow_id: str) -> None:
        self._workflow_id = workflow_id
        self._has_begun = False
        self._has_ended = False
        self._payload: Any = None
        self._request: ImageRequest | None = None
        self._admission: Admission | None = None
        self._earlier: asyncio.Future[EarlierRun] | None = None
        self._submitted_with_start = False
        self._starter_asked = False
        self._successor: Successor | None = None
        self._was_accepted = False
        self._count = 0

    def start(self, payload: Any, request: ImageRequest | None) -> None:
        """Set the payload that the run was started with, and the request parsed from it, None if it is invalid."""
        self._has_begun = True
        self._payload, self._request = payload, request

    async def set_admission(self, admission: Admission) -> str | None:
        """Set the result of the check. Return why the run must end without a call, None if it may go on.

        If somebody waits for a receipt, the ledger is asked first: once the call is in progress, the ledger knows this run
        and could not tell it from an earlier one.
        """
        self._admission = admission
        if not self._submitted_with_start or self._request is None or admission.problems:
            return None
        lookup = self._look_up(self._request, admission)
        await workflow.wait_condition(lookup.done)
        return lookup.result().conflict

    async def find_successor(self) -> Successor | None:
        """Return the submission to run after the run's own content was refused, None to end the run.

        There is one only if the starter itself asked for a receipt: that said `conflict` or `refused`, so the starter does not
        await the run. A client that started the run without a submission awaits it, and must not get another's result.
        """
        if self._admission is None:
            return None
        self.close()
        await workflow.wait_condition(workflow.all_handlers_finished)
        successor, self._successor = self._successor, None
        if successor is not None:
            self._has_ended = False
            self._payload, self._request, self._admission, earlier = successor
            self._earlier = asyncio.get_running_loop().create_future()
            self._earlier.set_result(earlier)
        return successor

    def close(self) -> None:
        """Answer all waiting submissions, as the run ends."""
        self._has_ended = True

    def check_limits(self) -> None:
        """Raise if more submissions would make Temporal terminate the run.

        Raises:
            ApplicationError: type `NoReceipt`. The submission is not in the history.
        """
        is_full = workflow.info().get_current_history_size() > MAX_HISTORY_BYTES
        if self._count < MAX_SUBMISSIONS and not is_full:
            return
        message = (
            f"The run {self._workflow_id} is in progress and was submitted {self._count} times: it accepts no more submissions."
            " Await its result."
        )
        raise ApplicationError(message, type=names.NO_RECEIPT, non_retryable=True)

    async def handle(self, argument: RawValue) -> SubmitReceipt:
        """Return the receipt of one submission, given as JSON of unknown origin.

        Raises:
            ApplicationError: type `NoReceipt`, the run was cancelled before its request id was looked up.
        """
        self._count += 1
        # An Update is handled before the run begins only if it came in the first workflow task.
        submitted_with_start = not self._has_begun
        self._submitted_with_start |= submitted_with_start
        await workflow.wait_condition(lambda: self._admission is not None or self._has_ended)
        if self._admission is None:
            raise no_receipt_error(self._workflow_id)
        payload = read_request_argument(argument)
        is_own_content = _canonical_json(payload) == _canonical_json(self._payload)
        # Without a memo, only the run's own content can be its starter's. A call that the server retries comes a moment later.
        is_early = workflow.now() - workflow.info().start_time < STARTER_WAIT
        came_first = is_own_content and (submitted_with_start or is_early)
        is_of_starter = self._is_of_starter(submitted_with_start=came_first)
        self._starter_asked |= is_of_starter
        submitted, problems, _ = read_request(payload)
        if is_own_content:
            problems = self._admission.problems or problems
        elif submitted is None:
            return await self._answer_unreadable(
                payload, problems, self._admission, is_of_starter=is_of_starter
            )
        else:
            conflict = self._find_conflict(submitted, self._admission)
            if conflict is not None:
                return await self._ask_for_owner(payload, submitted, self._admission, conflict)
            problems = self._admission.problems
        if submitted is None or problems:
            return refused_receipt(self._run_id, problems, self._admission.warnings)
        return await self._compare_with_ledger(
            submitted, self._admission, submitted_with_start=submitted_with_start
        )

    async def _answer_unreadable(
        self, payload: Any, problems: tuple[Problem, ...], admission: Admission, *, is_of_starter: bool
    ) -> SubmitReceipt:
        """Return the receipt of an unreadable submission with all its problems, also by the rules of its model.

        A starter whose run goes on must not read `refused`: it gets `conflict`.
        """
        checked = await check_payload(payload, self._workflow_id)
        problems = checked.problems or problems
        goes_on = self._request is not None and not admission.problems
        if is_of_starter and goes_on:
            return conflict_with_start_receipt(self._run_id, problems)
        return refused_receipt(self._run_id, problems, checked.warnings)

    def _find_conflict(self, submitted: ImageRequest, admission: Admission) -> SubmitReceipt | None:
        if self._request is None:
            return conflict_with_refused_receipt(self._run_id)
        differences = find_differences(self._request, submitted, self._workflow_id)
        if not differences:
            return None
        if admission.problems:
            return conflict_with_refused_receipt(self._run_id)
        return conflict_with_run_receipt(self._run_id, differences)

    async def _ask_for_owner(
        self, payload: Any, submitted: ImageRequest, admission: Admission, conflict: SubmitReceipt
    ) -> SubmitReceipt:
        """Return the receipt of other content than the run's: `conflict`, unless the request id belongs to it.

        Raises:
            ApplicationError: type `NoReceipt`, it belongs to it and the run cannot go on with it, or the ledger does not answer.
        """
        is_refused = self._request is None or bool(admission.problems)
        has_conflict = False
        if self._request is not None and not is_refused:
            own = await self._wait_for_ledger(self._look_up(self._request, admission))
            if own.is_owner:
                return conflict
            has_conflict = own.conflict is not None
        checked = await check_payload(payload, self._workflow_id)
        if checked.problems:
            return conflict
        earlier = await self._look_up_once(submitted, checked)
        # Nobody owns the request id of a refused run: the first valid content gets it.
        is_free = is_refused and not earlier.conflict and self._is_next(submitted)
        if not earlier.is_owner and not is_free:
            return conflict
        if not (is_refused or has_conflict) or not await self._wait_for_starter():
            raise no_receipt_for_owner_error(self._workflow_id)
        is_first = self._successor is None
        self._successor = self._successor or Successor(payload, submitted, checked, earlier)
        if is_first and not earlier.is_owner:
            return accepted_receipt(checked)
        return attached_receipt(
            checked, paid_before=earlier.paid, is_notified=_is_notified(submitted, self._successor.admission)
        )

    async def _wait_for_starter(self) -> bool:
        """Wait for the starter's own submission. Return False if none comes: then the starter awaits the run itself."""
        with suppress(TimeoutError):
            await workflow.wait_condition(lambda: self._starter_asked, timeout=STARTER_WAIT)
        return self._starter_asked

    def _is_next(self, submitted: ImageRequest) -> bool:
        successor = self._successor
        return successor is None or not find_differences(successor.request, submitted, self._workflow_id)

    @property
    def _run_id(self) -> str:
        return (self._admission and self._admission.run_id) or self._workflow_id

    async def _compare_with_ledger(
        self, submitted: ImageRequest, admission: Admission, *, submitted_with_start: bool
    ) -> SubmitReceipt:
        earlier = await self._wait_for_ledger(self._look_up(submitted, admission))
        if earlier.conflict:
            return conflict_with_ledger_receipt(
                admission.run_id, submitted, earlier.conflict, earlier.differences
            )
        if not earlier.paid and self._is_starter(submitted_with_start=submitted_with_start):
            self._was_accepted = True
            return accepted_receipt(admission)
        is_notified = _is_notified(submitted, admission)
        return attached_receipt(admission, paid_before=earlier.paid, is_notified=is_notified)

    async def _wait_for_ledger(self, lookup: "asyncio.Future[EarlierRun]") -> EarlierRun:
        await workflow.wait_condition(lambda: lookup.done() or self._has_ended)
        if not lookup.done():
            raise no_receipt_error(self._workflow_id)
        return lookup.result()

    def _is_starter(self, *, submitted_with_start: bool) -> bool:
        """Return whether this submission has started the run: the run's memo names it, or it is the first of all."""
        return self._is_of_starter(submitted_with_start=submitted_with_start and not self._was_accepted)

    def _is_of_starter(self, *, submitted_with_start: bool) -> bool:
        starter = read_argument(workflow.memo_value(SUBMISSION, NOTHING, type_hint=RawValue))
        if starter is None:
            return submitted_with_start
        update = workflow.current_update_info()
        return update is not None and update.id == starter

    def _look_up(self, request: ImageRequest, admission: Admission) -> "asyncio.Future[EarlierRun]":
        """Ask the ledger what it knows of the run, once for all submissions."""
        if self._earlier is None:
            self._earlier = asyncio.create_task(
                run_billing_activity(
                    names.FIND_EARLIER_RUN,
                    self._identify(request, admission),
                    EarlierRun,
                    summary=_summarize_lookup(admission),
                )
            )
        return self._earlier

    async def _look_up_once(self, request: ImageRequest, admission: Admission) -> EarlierRun:
        """Ask the ledger about other content, in one attempt only, as the run may be about to end."""
        try:
            earlier: EarlierRun = await workflow.execute_local_activity(
                names.FIND_EARLIER_RUN,
                self._identify(request, admission),
                result_type=EarlierRun,
                start_to_close_timeout=policies.LOCAL_MONEY_ATTEMPT,
                retry_policy=policies.LOCAL_MONEY_RETRY,
                summary=_summarize_lookup(admission),
            )
        except FailureError as error:
            raise no_receipt_error(self._workflow_id) from error
        return earlier

    def _identify(self, request: ImageRequest, admission: Admission) -> EarlierRunInput:
        return EarlierRunInput(
            run_id=admission.run_id,
            tenant=admission.tenant,
            request_id=admission.request_id,
            workflow_id=self._workflow_id,
            fingerprint=admission.fingerprint,
            operation=request.operation,
            requested_model=request.model,
        )


def _summarize_lookup(admission: Admission) -> str:
    return f"whether the request id {admission.request_id} was used before"


def _is_notified(submitted: ImageRequest, admission: Admission) -> bool:
    """Return whether the run notifies the URL that the submission names, if any."""
    return submitted.notify is None or submitted.notify == admission.notify


def _canonical_json(payload: Any) -> str:
    """Format a payload for comparison: in Python 1, 1.0 and True are equal, and not all of them are valid."""
    return json.dumps(payload, sort_keys=True)
