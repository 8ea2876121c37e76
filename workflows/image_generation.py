"""The workflow of one run: check, call the provider, compute the cost, record the bill.

Generation and editing are the same run. Only the order of effects lives here; the numbers are in `workflows.retry_policies`.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any

from temporalio import workflow
from temporalio.common import RawValue
from temporalio.exceptions import ActivityError, ApplicationError, FailureError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from gpt_image_runs.contracts import names
    from gpt_image_runs.contracts.billing import BillingInput, BillingRecord, Cost, CostInput
    from gpt_image_runs.contracts.calls import Admission, CallFailure, CallInput, CallResult
    from gpt_image_runs.contracts.decisions import Decision, DecisionTaken, OpenDecision
    from gpt_image_runs.contracts.fingerprints import strip_marks
    from gpt_image_runs.contracts.names import FINGERPRINT
    from gpt_image_runs.contracts.problems import Problem, describe_problems
    from gpt_image_runs.contracts.request import ImageRequest, describe_call
    from gpt_image_runs.contracts.request_parsing import read_request
    from gpt_image_runs.contracts.result import (
        ResultBilling,
        ResultCost,
        ResultProvider,
        RunResult,
        RunStatus,
    )
    from gpt_image_runs.contracts.submissions import SubmitReceipt
    from workflows import retry_policies as policies
    from workflows.activity_calls import (
        check_payload,
        run_billing_activity,
        run_shielded,
        take_image_slots,
        wait_for_activity,
    )
    from workflows.decisions import DecisionQueue, describe_decision, describe_end, find_open_decision
    from workflows.notification import notify_if_cancelled_early, notify_on_end
    from workflows.partial_images import PartialImages
    from workflows.payloads import MAX_MESSAGE, NOTHING, read_bounded, read_request_argument
    from workflows.run_status import RunStatusTracker, describe_last_attempt
    from workflows.schedules import find_scheduled_request_id, run_child
    from workflows.submissions import SubmissionHandler


def call_input(request: ImageRequest, admission: Admission, decided_attempts: tuple[str, ...]) -> CallInput:
    """What `call_gpt_image` needs."""
    return CallInput(
        run_id=admission.run_id,
        tenant=admission.tenant,
        request_id=admission.request_id,
        request=request,
        model=admission.model,
        fingerprint=admission.fingerprint,
        price_ceiling_usd=admission.price_ceiling_usd,
        unknown_outcome=admission.unknown_outcome,
        decided_attempts=decided_attempts,
        image_slots=admission.image_slots,
    )


def cost_input(request: ImageRequest, admission: Admission, call: CallResult) -> CostInput:
    """What `compute_cost` needs."""
    return CostInput(
        provider=admission.provider,
        model=call.model,
        usage=call.usage,
        usage_problem=call.usage_problem,
        missing_usage=admission.missing_usage,
        operation=request.operation,
        images=len(call.images),
        size=call.size,
        quality=call.quality,
        output_format=call.output_format,
        sent_at=call.sent_at,
        mode=call.mode,
        partial_images=request.partial_images,
    )


def billing_input(request: ImageRequest, admission: Admission, call: CallResult, cost: Cost) -> BillingInput:
    """What `record_billing` needs: the rest it finds with the attempt, in the ledger."""
    return BillingInput(
        run_id=admission.run_id,
        attempt_id=call.attempt_id,
        cost=cost,
        metadata=request.metadata or {},
    )


def run_result(
    run_id: str, request: ImageRequest, call: CallResult, cost: Cost, record: BillingRecord
) -> RunResult:
    """What the run answers."""
    return RunResult(
        run_id=run_id,
        operation=request.operation,
        model=call.model,
        requested_model=request.model,
        images=call.images,
        usage=call.usage,
        cost=ResultCost(
            amount_usd=cost.amount_usd,
            basis=cost.basis,
            flags=cost.flags,
            rate_card=cost.rate_card,
            list_cost_usd=cost.list_cost_usd,
            line_items=cost.line_items,
        ),
        billing=ResultBilling(state=record.state, entry_id=record.entry_id, reason=record.reason),
        provider=ResultProvider(
            name=call.provider,
            request_id=call.provider_request_id,
            attempts=call.attempts,
            simulated=call.simulated,
        ),
        warnings=call.warnings,
    )


async def bill_call(
    board: RunStatusTracker, request: ImageRequest, admission: Admission, call: CallResult
) -> RunResult:
    """What the run answers once its call is on the ledger: billed, or pending with its reason. However long that takes."""
    board.record_call_result(call)
    cost = await run_billing_activity(
        names.COMPUTE_COST,
        cost_input(request, admission, call),
        Cost,
        summary=f"the price of {len(call.images)} image(s) from {call.model}",
        tell=board.record_step_retry,
    )
    board.show(stage="recording", basis=cost.basis, cost_usd=cost.amount_usd, last_error=None)
    order = billing_input(request, admission, call, cost)
    recording = run_billing_activity(
        names.RECORD_BILLING,
        order,
        BillingRecord,
        summary=f"{cost.amount_usd} USD for {admission.tenant}" if cost.amount_usd else "held: no amount yet",
        tell=board.record_step_retry,
    )
    record = await _record_unless_lost(board, order, recording)
    cost = record.cost or cost  # of a run that was billed before, what is on its entry counts
    _index(board, call, cost, record)
    board.complete(call, cost, record)
    return run_result(admission.run_id, request, call, cost, record)


async def _record_unless_lost(
    board: RunStatusTracker, order: BillingInput, recording: Coroutine[Any, Any, BillingRecord]
) -> BillingRecord:
    """The bill, however long that takes. A run that was cancelled ends without one where the ledger does not have its attempt.

    Raises:
        CancelledError: so it ends. What was paid is in the image store, and `starter.py recover` bills it.
    """
    billing = asyncio.ensure_future(recording)
    cancelled = asyncio.ensure_future(workflow.wait_condition(lambda: _is_cancelled_and_waits(board)))
    await workflow.wait([billing, cancelled], return_when=asyncio.FIRST_COMPLETED)
    if not billing.done():
        try:
            record: BillingRecord = await workflow.execute_activity(
                names.RECORD_BILLING,
                order,
                result_type=BillingRecord,
                start_to_close_timeout=policies.MONEY_ATTEMPT,
                retry_policy=policies.CANCELLED_BILL_RETRY,
                summary="the run is cancelled: does the ledger have its attempt?",
            )
        except ActivityError as error:
            board.show(stage="cancelled", reason=str(error.cause or error))
            raise asyncio.CancelledError from None
        else:
            return record
        finally:
            billing.cancel()
    cancelled.cancel()
    return await billing


def _is_cancelled_and_waits(board: RunStatusTracker) -> bool:
    return workflow.cancellation_reason() is not None and board.status.last_error is not None


def _index(board: RunStatusTracker, call: CallResult, cost: Cost, record: BillingRecord) -> None:
    board.index(
        names.BILLING_STATE.value_set(record.state),
        names.IMAGE_COUNT.value_set(len(call.images)),
        # Temporal's only fractional type, for filters; the amount itself stays a string.
        *([names.COST_USD.value_set(float(cost.amount_usd))] if cost.amount_usd else []),
    )


@workflow.defn(name=names.WORKFLOW)
class ImageGeneration:
    """One image request, carried out and billed once. The run's id is the workflow's id."""

    def __init__(self) -> None:
        self._board = RunStatusTracker(workflow.info().workflow_id)
        self._desk = DecisionQueue(workflow.info().workflow_id)
        self._partial_images = PartialImages()
        self._reception = SubmissionHandler(workflow.info().workflow_id)

    @workflow.query(name=names.QUERY_STATUS)
    def status(self) -> RunStatus:
        """Where the run is, and what is known so far."""
        return self._board.status

    @workflow.signal(name=names.SIGNAL_PARTIAL_IMAGE)
    def partial_image(self, partial_json: RawValue = NOTHING) -> None:
        """A `PartialImage` from the call that is under way: shown on, and in the status."""
        is_news = self._partial_images.take(read_bounded(partial_json, MAX_MESSAGE))
        if is_news and self._board.status.stage == "generating":
            self._board.show(partial_images=self._partial_images.latest)

    @workflow.signal(name=names.SIGNAL_ATTEMPT_FAILED)
    def attempt_failed(self, failed_json: RawValue = NOTHING) -> None:
        """A `FailedAttempt` of the call, which is tried again: why the run waits, shown in the status."""
        self._board.record_failed_attempt(read_bounded(failed_json, MAX_MESSAGE))

    @workflow.update(name=names.UPDATE_SUBMIT)
    async def submit(self, request_json: RawValue = NOTHING) -> SubmitReceipt:
        """The receipt of a request for this run, started with it or earlier: one argument, as JSON that anybody may have sent."""
        return await self._reception.receive(request_json)

    @submit.validator
    def _check_submission(self, request_json: RawValue = NOTHING) -> None:  # noqa: ARG002 - the handler's signature
        """Refuses what comes too often; all else gets its reasons on a receipt. Without a validator the SDK would let surplus arguments in."""
        self._reception.check_limits()

    # Not async: it has finished when it returns, so no run can end before its answer.
    @workflow.update(name=names.UPDATE_DECIDE)
    def decide(self, decision_json: RawValue = NOTHING) -> DecisionTaken:
        """Somebody's `Decision` on a run that is held: one argument, as JSON that anybody may have sent."""
        return self._desk.take(read_bounded(decision_json, MAX_MESSAGE))

    @decide.validator
    def _check_decision(self, decision_json: RawValue = NOTHING) -> None:
        """Refuses what cannot be read or comes at the wrong time, before it is in the history."""
        self._desk.read(read_bounded(decision_json, MAX_MESSAGE))

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
                await run_shielded(answered, tell=lambda: None)

    async def _admit_and_carry_out(self, payload: Any) -> RunResult:
        request, problems, _ = read_request(payload)
        scheduled = find_scheduled_request_id(request) if request else None
        if request and scheduled:
            return await self._run_scheduled(request, payload, scheduled)
        self._reception.begin(payload, request)
        try:
            admission = await check_payload(payload, workflow.info().workflow_id)
        except (FailureError, asyncio.CancelledError) as error:
            await notify_if_cancelled_early(error, payload)
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
        return await (notify_on_end(work, admission.notify, admission) if admission.notify else work)

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
        result = await run_shielded(bill_call(self._board, request, admission, call))
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
        return await wait_for_activity(calling)

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
