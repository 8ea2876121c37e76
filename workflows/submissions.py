"""Where a run answers those who submit it: each submission gets its receipt, before anything is sent and before the run ends."""

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
    "The run was started with another address to tell its end to, or with none, and does not tell yours: await its result, or"
    " submit the request again once the run is over."
)


def find_differences(
    running: ImageRequest, submitted: ImageRequest, workflow_id: str
) -> tuple[Difference, ...]:
    """The fields in which a submission is not the run of this workflow. Tenant and request id belong to it, named or not."""
    ids = [find_request_id(request, workflow_id) or "absent" for request in (running, submitted)]
    other_id = (Difference(field="request_id", earlier=ids[0], submitted=ids[1]),) if ids[0] != ids[1] else ()
    return (*compare_contents(running, submitted), *other_id)


def no_receipt_error(workflow_id: str) -> ApplicationError:
    """There is no receipt, as nobody could know what the request id stands for."""
    message = f"The run {workflow_id} ended before it was known whether its request id was used before. Submit it again."
    return ApplicationError(message, type=names.NO_RECEIPT, non_retryable=True)


def no_receipt_for_owner_error(workflow_id: str) -> ApplicationError:
    """The request id belongs to this content, and the execution under way was started with other content by a plain start."""
    message = (
        f"The execution of {workflow_id} that is under way was started with other content, ends as {names.RUN_CONFLICT} and has"
        " no result for this request. The request id belongs to this content: submit it again."
    )
    return ApplicationError(message, type=names.NO_RECEIPT, non_retryable=True)


def accepted_receipt(admission: Admission) -> SubmitReceipt:
    """The run is started by this submission."""
    return SubmitReceipt(
        status="accepted",
        run_id=admission.run_id,
        message="The run is started, and its result is that of the workflow.",
        model=admission.model,
        price_ceiling_usd=admission.price_ceiling_usd,
        warnings=admission.warnings,
    )


def attached_receipt(admission: Admission, *, paid_before: bool, is_notified: bool = True) -> SubmitReceipt:
    """The run exists, or has existed: it is one run and one bill.

    `is_notified` is False where the submission names somebody whom this run does not tell of its end.
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
    """The submission is wrong, for all of these reasons."""
    return SubmitReceipt(
        status="refused",
        run_id=run_id,
        message=describe_problems(problems),
        problems=problems,
        warnings=warnings,
    )


def conflict_with_run_receipt(run_id: str, differences: tuple[Difference, ...]) -> SubmitReceipt:
    """A run of other content is under way."""
    fields = ", ".join(difference.field for difference in differences)
    return SubmitReceipt(
        status="conflict",
        run_id=run_id,
        message=f"The run {run_id} stands for other content already (other in {fields}), and nothing is done for this one."
        " Choose a new request id for a new picture, or submit the first content again for its result.",
        differences=differences,
    )


def conflict_with_start_receipt(run_id: str, problems: tuple[Problem, ...]) -> SubmitReceipt:
    """The submission is wrong, and its own start is not: that run goes on and is billed."""
    message = (
        f"The run {run_id} was started with other content than was submitted, and goes on with that: await its result, or cancel it."
        f" Nothing is done for this submission, which could not be run. {describe_problems(problems)}"
    )
    return SubmitReceipt(status="conflict", run_id=run_id, message=message, problems=problems)


def conflict_with_refused_receipt(run_id: str) -> SubmitReceipt:
    """A run of other content is under way, and about to end: the request id stays free."""
    message = (
        f"The run {run_id} that is under way is of other content, and is being refused. Nothing is done for this one:"
        " submit it again."
    )
    return SubmitReceipt(status="conflict", run_id=run_id, message=message)


def conflict_with_ledger_receipt(
    run_id: str, submitted: ImageRequest, conflict: str, fields: tuple[str, ...]
) -> SubmitReceipt:
    """The request id was used before, for what the ledger remembers by its marks."""
    return SubmitReceipt(
        status="conflict",
        run_id=run_id,
        message=conflict,
        differences=mark_differences(submitted, fields),
    )


MAX_SUBMISSIONS = 1_000
"""Temporal takes 2,000 Updates of a run: a decision has to find a place too, however often somebody submits a held run."""
MAX_HISTORY_BYTES = 8_000_000
"""Temporal ends a run at 50 MiB of history, be it paid or not. A submission is up to 2 MB of it, and ten may come at once."""

# How long after a run's start its starter's own Update may come: the server repeats calls under contention.
STARTER_WAIT = timedelta(seconds=2)


class Successor(NamedTuple):
    """The submission that a run goes on with, after its own content was refused: the content that owns the request id."""

    payload: Any
    request: ImageRequest
    admission: Admission
    earlier: EarlierRun


class SubmissionHandler:
    """The submissions of one run. A run that nobody submits does nothing for it: its history is as if there were none.

    The ledger decides which content owns a request id, not the order of starts: where the run's own content is not the owner's, the
    receipts say so to both sides, and the run ends, or goes on with the owner's content (`find_successor`).
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
        """The run begins, with this payload: `request` is what could be read of it."""
        self._has_begun = True
        self._payload, self._request = payload, request

    async def set_admission(self, admission: Admission) -> str | None:
        """The run's verdict is there. Where somebody waits for a receipt, the run first learns what the ledger knows of it.

        For once the call is under way, the ledger knows the run itself, and no receipt could tell it from an earlier one.
        Returns why the run must end without a call, where the ledger has other content under its id.
        """
        self._admission = admission
        if not self._submitted_with_start or self._request is None or admission.problems:
            return None
        looking = self._look_up(self._request, admission)
        await workflow.wait_condition(looking.done)
        return looking.result().conflict

    async def find_successor(self) -> Successor | None:
        """What to go on with, after the run's own content was refused or found to be another's: None to end the run.

        There is one only where the starter asked for a receipt itself: it was told `conflict` or `refused`, and does not await
        the run. Whoever started the run plainly awaits it for its own content, and must not get the result of another.
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
        """The run ends, however it does: whoever waits for a receipt is answered now."""
        self._has_ended = True

    def check_limits(self) -> None:
        """Turns a submission down, before it is in the history, where more of them would be the end of the run.

        Raises:
            ApplicationError: type `NoReceipt`.
        """
        is_full = workflow.info().get_current_history_size() > MAX_HISTORY_BYTES
        if self._count < MAX_SUBMISSIONS and not is_full:
            return
        message = (
            f"The run {self._workflow_id} is under way, and was submitted {self._count} times: it gives no more receipts."
            " Await its result."
        )
        raise ApplicationError(message, type=names.NO_RECEIPT, non_retryable=True)

    async def handle(self, argument: RawValue) -> SubmitReceipt:
        """The receipt of one submission: of JSON that anybody may have sent.

        Raises:
            ApplicationError: type `NoReceipt`, where the run was cancelled before it was known what it stands for.
        """
        self._count += 1
        # An Update is handled before the run begins only where it came in the first workflow task.
        submitted_with_start = not self._has_begun
        self._submitted_with_start |= submitted_with_start
        await workflow.wait_condition(lambda: self._admission is not None or self._has_ended)
        if self._admission is None:
            raise no_receipt_error(self._workflow_id)
        payload = read_request_argument(argument)
        is_own_content = _canonical_json(payload) == _canonical_json(self._payload)
        # Without a memo, only the run's own content can be its starter's. The server may repeat a call, which then comes a moment later.
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
        """All that is wrong, by the model's rules too: as its own run would be told.

        Whoever has started this run with a sound request, and asks with another, must not take it for refused: the run goes on.
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
        """The receipt of other content than the run was started with: `conflict`, unless the request id belongs to it.

        Raises:
            ApplicationError: type `NoReceipt`, where it does and the run cannot go on with it, or the ledger does not answer.
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
        # Nobody owns the request id of a run that is refused: then the first sound content has it.
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
        """Whether the starter asks for a receipt: then it does not await the result of the run, which has none for its content."""
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

    async def _wait_for_ledger(self, looking: "asyncio.Future[EarlierRun]") -> EarlierRun:
        await workflow.wait_condition(lambda: looking.done() or self._has_ended)
        if not looking.done():
            raise no_receipt_error(self._workflow_id)
        return looking.result()

    def _is_starter(self, *, submitted_with_start: bool) -> bool:
        """Whether this submission has started the run: its memo names the Update that did, else it is the first to come with it."""
        return self._is_of_starter(submitted_with_start=submitted_with_start and not self._was_accepted)

    def _is_of_starter(self, *, submitted_with_start: bool) -> bool:
        starter = read_argument(workflow.memo_value(SUBMISSION, NOTHING, type_hint=RawValue))
        if starter is None:
            return submitted_with_start
        update = workflow.current_update_info()
        return update is not None and update.id == starter

    def _look_up(self, request: ImageRequest, admission: Admission) -> "asyncio.Future[EarlierRun]":
        """What the ledger knows of the run, asked once for all submissions."""
        if self._earlier is None:
            self._earlier = asyncio.create_task(
                run_billing_activity(
                    names.FIND_EARLIER_RUN,
                    self._identify(request, admission),
                    EarlierRun,
                    summary=_summarize_look(admission),
                )
            )
        return self._earlier

    async def _look_up_once(self, request: ImageRequest, admission: Admission) -> EarlierRun:
        """The same for other content, which the run does not wait for longer than one attempt: it may be about to end."""
        try:
            earlier: EarlierRun = await workflow.execute_local_activity(
                names.FIND_EARLIER_RUN,
                self._identify(request, admission),
                result_type=EarlierRun,
                start_to_close_timeout=policies.LOCAL_MONEY_ATTEMPT,
                retry_policy=policies.LOCAL_MONEY_RETRY,
                summary=_summarize_look(admission),
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


def _summarize_look(admission: Admission) -> str:
    return f"whether the request id {admission.request_id} was used before"


def _is_notified(submitted: ImageRequest, admission: Admission) -> bool:
    """Whether the run tells its end to whom the submission names."""
    return submitted.notify is None or submitted.notify == admission.notify


def _canonical_json(payload: Any) -> str:
    """A payload as text: to Python 1, 1.0 and true are the same, and one of them may be refused."""
    return json.dumps(payload, sort_keys=True)
