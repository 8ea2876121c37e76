"""The workflow of one run: check the request, call the provider, compute the cost, record the bill.

Generating and editing are the same workflow. It only orders the effects; timeouts and retries are in
`workflows.retry_policies`.
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
    from workflows.run_status import RunStatusTracker, last_failed_attempt
    from workflows.schedules import find_scheduled_request_id, run_child
    from workflows.submissions import SubmissionHandler, Successor


@workflow.defn(name=names.WORKFLOW)
class ImageGeneration:
    """One image request, sent and billed once. The workflow's id is the run's id."""

    def __init__(self) -> None:
        self._tracker = RunStatusTracker(workflow.info().workflow_id)
        self._decisions = DecisionQueue(workflow.info().workflow_id)
        self._partial_images = PartialImages()
        self._submissions = SubmissionHandler(workflow.info().workflow_id)

    @workflow.run
    async def run(self, request_json: RawValue = NOTHING) -> RunResult:
        """Run one `ImageRequest`, given as JSON of unknown origin.

        Raises:
            ApplicationError: type `RequestRefused` with the problems as its details, before anything is sent; `GivenUp`
                after a decision; or the type of the provider's failure.
        """
        try:
            payload = read_request_argument(request_json)
            request, problems, _ = read_request(payload)
            scheduled = find_scheduled_request_id(request) if request else None
            if request and scheduled:
                return await self._run_scheduled(request, payload, scheduled)
            self._submissions.start(payload, request)
            admission = await self._check(payload)
            try:
                return await notify_on_end(self._call_and_bill(request, admission, problems), admission)
            except ApplicationError as error:
                successor = await self._find_successor(error)
                if successor is None:
                    raise
            admission = successor.admission
            return await notify_on_end(self._call_and_bill(successor.request, admission), admission)
        finally:
            await self._finish_handlers()

    async def _call_and_bill(
        self, request: ImageRequest | None, admission: Admission, problems: tuple[Problem, ...] = ()
    ) -> RunResult:
        request = await self._admit(request, admission, problems)
        call = await self._call(request, admission)
        # From here on the call is paid for: the run is billed and completes even if it is cancelled.
        cost = await run_shielded(self._compute_cost(request, admission, call))
        record = await run_shielded(self._record_billing(request, admission, call, cost))
        return self._complete(request, admission, call, record.cost or cost, record)

    async def _check(self, payload: Any) -> Admission:
        try:
            return await check_payload(payload, workflow.info().workflow_id)
        except (FailureError, asyncio.CancelledError) as error:
            await notify_if_cancelled_early(error, payload)
            raise

    async def _admit(
        self, request: ImageRequest | None, admission: Admission, problems: tuple[Problem, ...]
    ) -> ImageRequest:
        """Return the request if it may be sent.

        Raises:
            ApplicationError: type `RequestRefused`, or `RunConflict` if the ledger has other content under the run's id.
        """
        conflict = await self._submissions.set_admission(admission)
        if request is None or admission.problems:
            if admission.refused_tenant is not None:
                self._tracker.set_search_attributes(names.TENANT.value_set(admission.refused_tenant))
                self._tracker.update(tenant=admission.refused_tenant)
            raise self._refused_error(admission.problems or problems)
        self._tracker.set_search_attributes(
            names.TENANT.value_set(admission.tenant),
            names.MODEL.value_set(admission.model),
            names.OPERATION.value_set(request.operation),
        )
        if conflict is not None:
            raise self._conflict_error(conflict)
        self._tracker.update(
            run_id=admission.run_id,
            tenant=admission.tenant,
            model=admission.model,
            warnings=admission.warnings,
        )
        return request

    async def _call(self, request: ImageRequest, admission: Admission) -> CallResult:
        """Call the provider, again after each decision to resend."""
        decided: tuple[str, ...] = ()
        while True:
            self._tracker.update(stage="generating")
            try:
                return await self._call_once(request, admission, decided)
            except ActivityError as error:
                if is_cancelled_exception(error):
                    self._tracker.update(stage="cancelled")
                    raise
                question = find_open_decision(error)
                if question is None:
                    raise self._call_error(error) from None
            await self._wait_for_decision(question)
            decided = tuple(attempt.attempt_id for attempt in question.attempts)

    async def _call_once(
        self, request: ImageRequest, admission: Admission, decided: tuple[str, ...]
    ) -> CallResult:
        priority = await take_image_slots(admission.image_slots)
        calling: workflow.ActivityHandle[CallResult] = workflow.start_activity(
            names.CALL_GPT_IMAGE,
            _build_call_input(request, admission, decided),
            result_type=CallResult,
            task_queue=names.PROVIDER_QUEUE,
            start_to_close_timeout=policies.CALL_ATTEMPT,
            schedule_to_close_timeout=policies.CALL_IN_ALL,
            heartbeat_timeout=policies.CALL_HEARTBEAT,
            retry_policy=policies.CALL_RETRY,
            # A call that was sent is finished and billed: a cancelled run waits for what the activity returns.
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
            priority=priority,
            summary=describe_call(
                admission.model, request.operation, request.size, request.quality, request.image_count
            ),
        )
        return await wait_for_activity(calling)

    async def _compute_cost(self, request: ImageRequest, admission: Admission, call: CallResult) -> Cost:
        self._tracker.record_call_result(call)
        return await run_billing_activity(
            names.COMPUTE_COST,
            _build_cost_input(request, admission, call),
            Cost,
            summary=f"the price of {len(call.images)} image(s) from {call.model}",
            on_retry=self._tracker.record_step_retry,
        )

    async def _record_billing(
        self, request: ImageRequest, admission: Admission, call: CallResult, cost: Cost
    ) -> BillingRecord:
        """Return the run's bill, however long recording it takes.

        Raises:
            CancelledError: the run was cancelled and the ledger does not have its attempt. What was paid is in the image
                store, and `starter.py recover` bills it.
        """
        self._tracker.update(stage="recording", basis=cost.basis, cost_usd=cost.amount_usd, last_error=None)
        billing_input = BillingInput(
            run_id=admission.run_id, attempt_id=call.attempt_id, cost=cost, metadata=request.metadata or {}
        )
        recording = run_billing_activity(
            names.RECORD_BILLING,
            billing_input,
            BillingRecord,
            summary=f"{cost.amount_usd} USD for {admission.tenant}"
            if cost.amount_usd
            else "held: no amount yet",
            on_retry=self._tracker.record_step_retry,
        )
        return await self._record_unless_lost(billing_input, recording)

    async def _record_unless_lost(
        self, billing_input: BillingInput, recording: Coroutine[Any, Any, BillingRecord]
    ) -> BillingRecord:
        billing = asyncio.ensure_future(recording)
        cancelled = asyncio.ensure_future(workflow.wait_condition(self._is_cancelled_while_retrying))
        await workflow.wait([billing, cancelled], return_when=asyncio.FIRST_COMPLETED)
        if billing.done():
            cancelled.cancel()
            return await billing
        try:
            record: BillingRecord = await workflow.execute_activity(
                names.RECORD_BILLING,
                billing_input,
                result_type=BillingRecord,
                start_to_close_timeout=policies.MONEY_ATTEMPT,
                retry_policy=policies.CANCELLED_BILL_RETRY,
                summary="the run is cancelled: does the ledger have its attempt?",
            )
        except ActivityError as error:
            self._tracker.update(stage="cancelled", reason=str(error.cause or error))
            raise asyncio.CancelledError from None
        else:
            return record
        finally:
            billing.cancel()

    def _is_cancelled_while_retrying(self) -> bool:
        return workflow.cancellation_reason() is not None and self._tracker.status.last_error is not None

    def _complete(
        self,
        request: ImageRequest,
        admission: Admission,
        call: CallResult,
        cost: Cost,
        record: BillingRecord,
    ) -> RunResult:
        """Return the run's result.

        Raises:
            ApplicationError: the call was paid for and billed, and has no usable image.
        """
        self._tracker.set_search_attributes(
            names.BILLING_STATE.value_set(record.state),
            names.IMAGE_COUNT.value_set(len(call.images)),
            # Temporal's only fractional type, for filters; the amount itself stays a string.
            *([names.COST_USD.value_set(float(cost.amount_usd))] if cost.amount_usd else []),
        )
        self._tracker.complete(call, cost, record)
        result = _build_run_result(admission.run_id, request, call, cost, record)
        if call.failure is not None:
            raise self._undelivered_error(call, call.failure, result)
        return result

    async def _run_scheduled(
        self, request: ImageRequest, payload: dict[str, Any], request_id: str | Problem
    ) -> RunResult:
        """Return the result of the run for the time at which a schedule has started this workflow."""
        if isinstance(request_id, Problem):
            raise self._refused_error((request_id,))
        run_id = names.run_id_for(request.tenant, request_id)
        self._tracker.update(run_id=run_id, tenant=request.tenant)
        return await run_child(names.WORKFLOW, {**payload, "request_id": request_id}, run_id, RunResult)

    async def _find_successor(self, error: ApplicationError) -> Successor | None:
        """Return the submission to run after the own content was refused, None to end with `error`."""
        if error.type not in {names.REQUEST_REFUSED, names.RUN_CONFLICT}:
            return None
        successor = await self._submissions.find_successor()
        if successor is not None:
            self._tracker.update(stage="checking", reason=None, last_error=None)
            # Clients that find the run by its memo compare their request with the content that is really run.
            workflow.upsert_memo({FINGERPRINT: strip_marks(successor.admission.fingerprint)})
        return successor

    async def _finish_handlers(self) -> None:
        """Answer all open Updates before the run ends, even if it is cancelled meanwhile."""
        self._partial_images.close()
        self._submissions.close()
        if not workflow.all_handlers_finished():
            answered = workflow.wait_condition(workflow.all_handlers_finished)
            await run_shielded(answered, on_cancel=lambda: None)

    @workflow.query(name=names.QUERY_STATUS)
    def status(self) -> RunStatus:
        """Return the run's stage and what is known so far."""
        return self._tracker.status

    @workflow.signal(name=names.SIGNAL_PARTIAL_IMAGE)
    def partial_image(self, partial_json: RawValue = NOTHING) -> None:
        """Publish a `PartialImage` of the call in progress, and show it in the status."""
        is_new = self._partial_images.publish(read_bounded(partial_json, MAX_MESSAGE))
        if is_new and self._tracker.status.stage == "generating":
            self._tracker.update(partial_images=self._partial_images.latest)

    @workflow.signal(name=names.SIGNAL_ATTEMPT_FAILED)
    def attempt_failed(self, failed_json: RawValue = NOTHING) -> None:
        """Show a `FailedAttempt` of the call in the status: why the run waits until the next attempt."""
        self._tracker.record_failed_attempt(read_bounded(failed_json, MAX_MESSAGE))

    @workflow.update(name=names.UPDATE_SUBMIT)
    async def submit(self, request_json: RawValue = NOTHING) -> SubmitReceipt:
        """Return the receipt of a request for this run, given as JSON of unknown origin."""
        return await self._submissions.handle(request_json)

    @submit.validator
    def _check_submission(self, request_json: RawValue = NOTHING) -> None:  # noqa: ARG002 - the handler's signature
        """Reject a submission over the limits; everything else is answered with a receipt.

        Without a validator the SDK would accept surplus arguments.
        """
        self._submissions.check_limits()

    # Not async: it has finished when it returns, so no run can end before its answer.
    @workflow.update(name=names.UPDATE_DECIDE)
    def decide(self, decision_json: RawValue = NOTHING) -> DecisionTaken:
        """Accept a `Decision` on a held run, given as JSON of unknown origin."""
        return self._decisions.accept(read_bounded(decision_json, MAX_MESSAGE))

    @decide.validator
    def _check_decision(self, decision_json: RawValue = NOTHING) -> None:
        """Reject a decision that cannot be read or comes at the wrong time, before it is in the history."""
        self._decisions.validate(read_bounded(decision_json, MAX_MESSAGE))

    async def _wait_for_decision(self, question: OpenDecision) -> None:
        """Return once somebody has decided to send the request again.

        Raises:
            ApplicationError: type `GivenUp`.
            CancelledError: the run was cancelled, while it waited or while the call was in progress.
        """
        if workflow.cancellation_reason() is not None:
            self._tracker.update(stage="cancelled")
            raise asyncio.CancelledError
        self._tracker.set_search_attributes(names.WAITS_FOR.value_set(names.DECISION))
        self._tracker.hold(question)
        try:
            decision = await self._decisions.wait()
        except asyncio.CancelledError:
            self._tracker.update(stage="cancelled", open_decision=None)
            raise
        finally:
            self._tracker.set_search_attributes(names.WAITS_FOR.value_unset())
        if decision.decision == "give_up":
            raise self._given_up_error(question, decision)
        self._tracker.update(
            reason=None,
            open_decision=None,
            warnings=(*self._tracker.status.warnings, describe_decision(decision)),
        )

    def _refused_error(self, problems: tuple[Problem, ...]) -> ApplicationError:
        message = describe_problems(problems)
        self._tracker.update(stage="refused", reason=message)
        return ApplicationError(message, *problems, type=names.REQUEST_REFUSED, non_retryable=True)

    def _conflict_error(self, message: str) -> ApplicationError:
        """Return the error that `call_gpt_image` would raise, without waiting for a slot on its queue."""
        self._tracker.fail(last_failed_attempt(None, names.RUN_CONFLICT, message))
        return ApplicationError(message, type=names.RUN_CONFLICT, non_retryable=True)

    def _call_error(self, error: ActivityError) -> ApplicationError:
        """Return the provider's failure as the run's own, which is the first that an operator sees."""
        cause = error.cause if isinstance(error.cause, ApplicationError) else None
        message = cause.message if cause else f"The provider could not be called: {error.cause or error}"
        kind = (cause.type if cause else None) or type(error.cause or error).__name__
        self._tracker.fail(last_failed_attempt(cause, kind, message))
        return ApplicationError(message, *(cause.details if cause else ()), type=kind, non_retryable=True)

    def _undelivered_error(
        self, call: CallResult, failure: CallFailure, result: RunResult
    ) -> ApplicationError:
        amount, entry_id = result.cost.amount_usd, result.billing.entry_id
        bill = f"billed with {amount} USD" if amount else "billed as pending"
        message = f"{failure.message} The run is {bill}, entry {entry_id}."
        facts = {"attempt_id": call.attempt_id, "attempts": call.attempts, "entry_id": entry_id}
        error = ApplicationError(message, facts, type=failure.error_type, non_retryable=True)
        self._tracker.fail(last_failed_attempt(error, failure.error_type, message))
        return error

    def _given_up_error(self, question: OpenDecision, decision: Decision) -> ApplicationError:
        message = describe_end(question, decision)
        self._tracker.update(stage="failed", reason=message, open_decision=None)
        return ApplicationError(message, question, decision, type=names.GIVEN_UP, non_retryable=True)


def _build_call_input(
    request: ImageRequest, admission: Admission, decided_attempts: tuple[str, ...]
) -> CallInput:
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


def _build_cost_input(request: ImageRequest, admission: Admission, call: CallResult) -> CostInput:
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


def _build_run_result(
    run_id: str, request: ImageRequest, call: CallResult, cost: Cost, record: BillingRecord
) -> RunResult:
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
