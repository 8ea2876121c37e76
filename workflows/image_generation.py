"""The workflow of one run: check, call the provider, compute the cost, record the bill.

Generation and editing are the same run. Only the order of effects lives here; the numbers are in `workflows.policies`.
"""

import asyncio
from typing import Any

from temporalio import workflow
from temporalio.common import RawValue
from temporalio.exceptions import ActivityError, ApplicationError, FailureError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from contracts import names
    from contracts.calls import Admission, CallFailure, CallResult
    from contracts.content_marks import strip_marks
    from contracts.decisions import Decision, DecisionTaken, OpenDecision
    from contracts.problems import Problem, describe_problems
    from contracts.reading import read_request
    from contracts.request import ImageRequest
    from contracts.result import RunResult, RunStatus
    from contracts.submissions import SubmitReceipt
    from workflows import policies
    from workflows.arguments import (
        LARGEST_MESSAGE,
        NOTHING,
        read_bounded,
        read_request_argument,
    )
    from workflows.call_billing import bill_call
    from workflows.cancellation import await_answer, finish_despite_cancellation
    from workflows.checking import check_payload
    from workflows.decisions import DecisionDesk, describe_decision, describe_end, find_open_decision
    from workflows.details import describe_call
    from workflows.end_notice import tell_of_early_end, tell_of_end
    from workflows.failed_attempts import describe_last_attempt
    from workflows.hand_over import call_input
    from workflows.image_slots import take_image_slots
    from workflows.partial_images import PartialImages
    from workflows.reception import Reception
    from workflows.run_start import FINGERPRINT
    from workflows.schedules import find_scheduled_request_id, run_child
    from workflows.status_board import StatusBoard


@workflow.defn(name=names.WORKFLOW)
class ImageGeneration:
    """One image request, carried out and billed once. The run's id is the workflow's id."""

    def __init__(self) -> None:
        self._board = StatusBoard(workflow.info().workflow_id)
        self._desk = DecisionDesk(workflow.info().workflow_id)
        self._partial_images = PartialImages()
        self._reception = Reception(workflow.info().workflow_id)

    @workflow.query(name=names.QUERY_STATUS)
    def status(self) -> RunStatus:
        """Where the run is, and what is known so far."""
        return self._board.status

    @workflow.signal(name=names.SIGNAL_PARTIAL_IMAGE)
    def partial_image(self, partial_json: RawValue = NOTHING) -> None:
        """A `PartialImage` from the call that is under way: shown on, and in the status."""
        is_news = self._partial_images.take(read_bounded(partial_json, LARGEST_MESSAGE))
        if is_news and self._board.status.stage == "generating":
            self._board.show(partial_images=self._partial_images.latest)

    @workflow.signal(name=names.SIGNAL_ATTEMPT_FAILED)
    def attempt_failed(self, failed_json: RawValue = NOTHING) -> None:
        """A `FailedAttempt` of the call, which is tried again: why the run waits, shown in the status."""
        self._board.hear_of_failure(read_bounded(failed_json, LARGEST_MESSAGE))

    @workflow.update(name=names.UPDATE_SUBMIT)
    async def submit(self, request_json: RawValue = NOTHING) -> SubmitReceipt:
        """The receipt of a request for this run, started with it or earlier: one argument, as JSON that anybody may have sent."""
        return await self._reception.receive(request_json)

    @submit.validator
    def _check_submission(self, request_json: RawValue = NOTHING) -> None:  # noqa: ARG002 - the handler's signature
        """Refuses what comes too often; all else gets its reasons on a receipt. Without a validator the SDK would let surplus arguments in."""
        self._reception.check_room()

    # Not async: it has finished when it returns, so no run can end before its answer.
    @workflow.update(name=names.UPDATE_DECIDE)
    def decide(self, decision_json: RawValue = NOTHING) -> DecisionTaken:
        """Somebody's `Decision` on a run that is held: one argument, as JSON that anybody may have sent."""
        return self._desk.take(read_bounded(decision_json, LARGEST_MESSAGE))

    @decide.validator
    def _check_decision(self, decision_json: RawValue = NOTHING) -> None:
        """Refuses what cannot be read or comes at the wrong time, before it is in the history."""
        self._desk.read(read_bounded(decision_json, LARGEST_MESSAGE))

    @workflow.run
    async def run(self, request_json: RawValue = NOTHING) -> RunResult:
        """Carries out one `ImageRequest`: one argument, as JSON that anybody may have sent.

        Raises:
            ApplicationError: type `RequestRefused` with a list of problems as its details, before anything is sent;
                `GivenUp` by a decision; or the type of the failure that the provider's answer was.
        """
        try:
            return await self._admit_and_carry_out(read_request_argument(request_json))
        finally:
            self._partial_images.close()
            self._reception.close()
            # No run ends before its answers, and no cancellation that comes meanwhile takes its result away.
            if not workflow.all_handlers_finished():
                answered = workflow.wait_condition(workflow.all_handlers_finished)
                await finish_despite_cancellation(answered, tell=lambda: None)

    async def _admit_and_carry_out(self, payload: Any) -> RunResult:
        request, problems, _ = read_request(payload)
        scheduled = find_scheduled_request_id(request) if request else None
        if request and scheduled:
            return await self._run_scheduled(request, payload, scheduled)
        self._reception.begin(payload, request)
        try:
            admission = await check_payload(payload, workflow.info().workflow_id)
        except (FailureError, asyncio.CancelledError) as error:
            await tell_of_early_end(error, payload)
            raise
        try:
            return await self._carry_out_and_tell(request, admission, problems)
        except ApplicationError as error:
            if error.type not in {names.REQUEST_REFUSED, names.RUN_CONFLICT}:
                raise
            successor = await self._reception.find_successor()
            if successor is None:
                raise
        self._board.show(stage="checking", reason=None, last_error=None)
        # Whoever looks at the run by its memo compares the content that it is carried out with.
        workflow.upsert_memo({FINGERPRINT: strip_marks(successor.admission.fingerprint)})
        return await self._carry_out_and_tell(successor.request, successor.admission, ())

    async def _carry_out_and_tell(
        self, request: ImageRequest | None, admission: Admission, problems: tuple[Problem, ...]
    ) -> RunResult:
        work = self._carry_out(request, admission, problems)
        return await (tell_of_end(work, admission.notify, admission) if admission.notify else work)

    async def _run_scheduled(
        self, request: ImageRequest, payload: dict[str, Any], request_id: str | Problem
    ) -> RunResult:
        """The result of the run that belongs to the time for which a schedule has started this workflow."""
        if isinstance(request_id, Problem):
            raise self._refusal((request_id,))
        run_id = names.run_id_for(request.tenant, request_id)
        self._board.show(run_id=run_id, tenant=request.tenant)
        return await run_child(names.WORKFLOW, {**payload, "request_id": request_id}, run_id, RunResult)

    async def _carry_out(
        self, request: ImageRequest | None, admission: Admission, problems: tuple[Problem, ...]
    ) -> RunResult:
        conflict = await self._reception.admit(admission)
        if request is None or admission.problems:
            if admission.refused_tenant is not None:
                self._board.index(names.TENANT.value_set(admission.refused_tenant))
                self._board.show(tenant=admission.refused_tenant)
            raise self._refusal(admission.problems or problems)
        if conflict is not None:
            self._index(request, admission)
            raise self._conflict(conflict)
        call = await self._call(request, admission)
        result = await finish_despite_cancellation(bill_call(self._board, request, admission, call))
        if call.failure is not None:
            raise self._undelivered(call, call.failure, result)
        return result

    async def _call(self, request: ImageRequest, admission: Admission) -> CallResult:
        self._index(request, admission)
        self._board.show(
            run_id=admission.run_id,
            tenant=admission.tenant,
            model=admission.model,
            warnings=admission.warnings,
        )
        decided: tuple[str, ...] = ()
        while True:
            self._board.show(stage="generating")
            try:
                return await self._send(request, admission, decided)
            except ActivityError as error:
                if is_cancelled_exception(error):
                    self._board.show(stage="cancelled")
                    raise
                question = find_open_decision(error)
                if question is None:
                    raise self._failure(error) from None
            await self._hold(question)
            decided = tuple(attempt.attempt_id for attempt in question.attempts)

    def _index(self, request: ImageRequest, admission: Admission) -> None:
        """What operators find the run by."""
        self._board.index(
            names.TENANT.value_set(admission.tenant),
            names.MODEL.value_set(admission.model),
            names.OPERATION.value_set(request.operation),
        )

    async def _send(
        self, request: ImageRequest, admission: Admission, decided: tuple[str, ...]
    ) -> CallResult:
        priority = await take_image_slots(admission.image_slots)
        calling: workflow.ActivityHandle[CallResult] = workflow.start_activity(
            names.CALL_GPT_IMAGE,
            call_input(request, admission, decided),
            result_type=CallResult,
            task_queue=names.PROVIDER_QUEUE,
            start_to_close_timeout=policies.CALL_ATTEMPT,
            schedule_to_close_timeout=policies.CALL_IN_ALL,
            heartbeat_timeout=policies.CALL_HEARTBEAT,
            retry_policy=policies.CALL_RETRY,
            # A cancelled run hears from the activity first: a call that was sent is let finish, and billed.
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
            priority=priority,
            summary=describe_call(
                admission.model, request.operation, request.size, request.quality, request.image_count
            ),
        )
        return await await_answer(calling)

    async def _hold(self, question: OpenDecision) -> None:
        """Waits until somebody has decided, and returns where the request is to be sent once more.

        Raises:
            ApplicationError: type `GivenUp`.
            CancelledError: the run was cancelled, while it waited or while the call was under way.
        """
        if workflow.cancellation_reason() is not None:
            self._board.show(stage="cancelled")
            raise asyncio.CancelledError
        self._board.index(names.WAITS_FOR.value_set(names.DECISION))
        self._board.hold(question)
        try:
            decision = await self._desk.ask()
        except asyncio.CancelledError:
            self._board.show(stage="cancelled", open_decision=None)
            raise
        finally:
            self._board.index(names.WAITS_FOR.value_unset())
        if decision.decision == "give_up":
            raise self._given_up(question, decision)
        self._board.show(
            reason=None,
            open_decision=None,
            warnings=(*self._board.status.warnings, describe_decision(decision)),
        )

    def _refusal(self, problems: tuple[Problem, ...]) -> ApplicationError:
        message = describe_problems(problems)
        self._board.show(stage="refused", reason=message)
        return ApplicationError(message, *problems, type=names.REQUEST_REFUSED, non_retryable=True)

    def _conflict(self, message: str) -> ApplicationError:
        """The ledger has other content under the run's id: what `call_gpt_image` would say, without waiting for its turn."""
        self._board.fail(describe_last_attempt(None, names.RUN_CONFLICT, message))
        return ApplicationError(message, type=names.RUN_CONFLICT, non_retryable=True)

    def _failure(self, error: ActivityError) -> ApplicationError:
        """The provider's failure as the run's own: its type and its words, where an operator looks first."""
        cause = error.cause if isinstance(error.cause, ApplicationError) else None
        message = cause.message if cause else f"The provider could not be called: {error.cause or error}"
        kind = (cause.type if cause else None) or type(error.cause or error).__name__
        self._board.fail(describe_last_attempt(cause, kind, message))
        return ApplicationError(message, *(cause.details if cause else ()), type=kind, non_retryable=True)

    def _undelivered(self, call: CallResult, failure: CallFailure, result: RunResult) -> ApplicationError:
        """The failure of a run that was paid for and billed, and has no picture."""
        amount, entry_id = result.cost.amount_usd, result.billing.entry_id
        bill = f"billed with {amount} USD" if amount else "billed as pending"
        message = f"{failure.message} The run is {bill}, entry {entry_id}."
        facts = {"attempt_id": call.attempt_id, "attempts": call.attempts, "entry_id": entry_id}
        error = ApplicationError(message, facts, type=failure.error_type, non_retryable=True)
        self._board.fail(describe_last_attempt(error, failure.error_type, message))
        return error

    def _given_up(self, question: OpenDecision, decision: Decision) -> ApplicationError:
        message = describe_end(question, decision)
        self._board.show(stage="failed", reason=message, open_decision=None)
        return ApplicationError(message, question, decision, type=names.GIVEN_UP, non_retryable=True)
