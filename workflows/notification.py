"""The workflow that tells one destination of one run's end. The run has ended: it does not wait for this, and does not fail by it."""

import asyncio
from collections.abc import Coroutine
from typing import Any
from urllib.parse import urlsplit

from pydantic import ValidationError
from temporalio import workflow
from temporalio.common import (
    RawValue,
    SearchAttributePair,
    TypedSearchAttributes,
    VersioningBehavior,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import ActivityError, ApplicationError, FailureError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from gpt_image_runs.contracts import names
    from gpt_image_runs.contracts.calls import Admission
    from gpt_image_runs.contracts.notifications import (
        Delivery,
        NotificationOrder,
        RunEnd,
        RunFailure,
        event_id_for,
        notification_id_for,
    )
    from gpt_image_runs.contracts.request import Notify
    from gpt_image_runs.contracts.request_parsing import read_request
    from gpt_image_runs.contracts.result import RunResult
    from workflows import retry_policies as policies
    from workflows.activity_calls import check_payload, run_shielded
    from workflows.payloads import NOTHING, read_argument
    from workflows.run_status import quote

_MAX_HOST = 200
"""Temporal takes a summary of at most 400 bytes."""


def describe_order(order: NotificationOrder) -> str:
    """A few words for lists: what is told to whom, without the address's path, which may hold a token."""
    return f"{order.event}: told to {urlsplit(order.url).netloc[:_MAX_HOST]}"


def describe_waiting(order: NotificationOrder) -> str:
    """The page of a notification that nobody has taken yet."""
    return f"**Not taken yet**\n\n{_describe_event(order)}"


def succeeded_outcome(order: NotificationOrder, delivery: Delivery) -> str:
    """The same, once it is told."""
    attempts = "1 attempt" if delivery.attempts == 1 else f"{delivery.attempts} attempts"
    return f"**Delivered** · {delivery.http_status} · {attempts}\n\n{_describe_event(order)}"


def describe_end(order: NotificationOrder, reason: str) -> str:
    """The same, where nobody took it."""
    return f"**Not delivered**\n\n{_describe_event(order)}\n\n**Reason:** {quote(reason)}"


def _describe_event(order: NotificationOrder) -> str:
    return f"{quote(order.run_id)}, {describe_order(order)}"


@workflow.defn(name=names.NOTIFICATION)
class Notification:
    """One event for one destination, tried for three days."""

    @workflow.run
    async def run(self, order_json: RawValue = NOTHING) -> Delivery:
        """Carries out one `NotificationOrder`.

        Raises:
            ApplicationError: type `RequestRefused` where the order cannot be read, `NotificationGivenUp` after three days, or
                the type of the failure that ended it.
        """
        order = self._read(read_argument(order_json))
        workflow.set_current_details(describe_waiting(order))
        try:
            delivery = await self._deliver(order)
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            raise self._failure(order, error) from None
        workflow.set_current_details(succeeded_outcome(order, delivery))
        return delivery

    def _read(self, payload: Any) -> NotificationOrder:
        try:
            return NotificationOrder.model_validate(payload)
        except ValidationError as error:
            wrong = ", ".join(sorted({".".join(map(str, detail["loc"])) for detail in error.errors()}))
            message = f"This is no order of a notification: {wrong or 'it'} cannot be read. Runs start notifications."
            raise ApplicationError(message, type=names.REQUEST_REFUSED, non_retryable=True) from None

    async def _deliver(self, order: NotificationOrder) -> Delivery:
        delivery: Delivery = await workflow.execute_activity(
            names.NOTIFY,
            order,
            result_type=Delivery,
            task_queue=names.NOTIFY_QUEUE,
            start_to_close_timeout=policies.NOTIFY_ATTEMPT,
            schedule_to_close_timeout=policies.NOTIFY_IN_ALL,
            retry_policy=policies.NOTIFY_RETRY,
            summary=describe_order(order),
        )
        return delivery

    def _failure(self, order: NotificationOrder, error: ActivityError) -> ApplicationError:
        """Why nobody was told: the receiver's last answer, also where time has run out."""
        cause = error.cause
        while cause is not None and not isinstance(cause, ApplicationError):
            cause = cause.__cause__
        message = cause.message if isinstance(cause, ApplicationError) else "No worker has tried it."
        workflow.set_current_details(describe_end(order, message))
        if isinstance(cause, ApplicationError) and cause.non_retryable:
            return ApplicationError(message, type=cause.type, non_retryable=True)
        return ApplicationError(message, type=names.NOTIFICATION_GIVEN_UP, non_retryable=True)


# A class of its own, as the server refuses the behavior from workers without a build.
@workflow.defn(name=names.NOTIFICATION, versioning_behavior=VersioningBehavior.AUTO_UPGRADE)
class NotificationOfAnyBuild(Notification):
    """The same on workers of a build: not pinned as its run is, as a receiver that is away would hold a whole build for three
    days, for one step and its end.
    """

    @workflow.run
    async def run(self, order_json: RawValue = NOTHING) -> Delivery:
        """As `Notification.run`."""
        return await super().run(order_json)


async def notify_on_end(work: Coroutine[Any, Any, RunResult], admission: Admission) -> RunResult:
    """Return or raise what `work` does, after its end is notified to the URL that the request names, if any."""
    notify = admission.notify
    if notify is None:
        return await work
    try:
        result = await work
    except (FailureError, asyncio.CancelledError) as error:
        failure = _build_failure(error, admission)
        await _start_notification(notify, admission, failure.status, failure=failure)
        raise
    await _start_notification(notify, admission, "completed", result=result)
    return result


async def notify_if_cancelled_early(error: BaseException, payload: Any) -> None:
    """Has it told that a run was cancelled while nobody had checked it: it is checked now, for whom may be told."""
    asked = read_request(payload).sound
    if not is_cancelled_exception(error) or asked is None or asked.notify is None:
        return
    admission = await check_payload(payload, workflow.info().workflow_id)
    if admission.notify:
        failure = _build_failure(error, admission)
        await _start_notification(admission.notify, admission, "cancelled", failure=failure)


def _build_failure(error: BaseException, admission: Admission) -> RunFailure:
    run_id = admission.run_id or workflow.info().workflow_id
    if is_cancelled_exception(error):
        return RunFailure(
            run_id=run_id,
            status="cancelled",
            type="Cancelled",
            message="The run was cancelled before it had a picture.",
        )
    kind = (error.type if isinstance(error, ApplicationError) else None) or type(error).__name__
    message = error.message if isinstance(error, FailureError) else str(error)
    return RunFailure(run_id=run_id, status="failed", type=kind, message=message)


async def _start_notification(
    notify: Notify,
    admission: Admission,
    event: RunEnd,
    *,
    result: RunResult | None = None,
    failure: RunFailure | None = None,
) -> None:
    info = workflow.info()
    run_id = admission.run_id or info.workflow_id
    order = NotificationOrder(
        event=event,
        # After a reset the execution has another id, and has to find the notification that it has started before.
        event_id=event_id_for(run_id, event, info.first_execution_run_id),
        run_id=run_id,
        url=notify.url,
        time=workflow.now(),
        result=result,
        failure=failure,
    )
    # Whoever cancels the run now is too late for it, and must not keep others from hearing how it ended.
    await run_shielded(_start_child(order), on_cancel=lambda: None)


async def _start_child(order: NotificationOrder) -> None:
    tenant = workflow.info().typed_search_attributes.get(names.TENANT)  # a refused run may have none
    try:
        await workflow.start_child_workflow(
            names.NOTIFICATION,
            order,
            id=notification_id_for(order.run_id, order.event_id, order.url),
            parent_close_policy=workflow.ParentClosePolicy.ABANDON,
            # A run that is submitted again completes again: its end is told once. What nobody took is tried once more.
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY,
            search_attributes=TypedSearchAttributes(
                [SearchAttributePair(names.TENANT, tenant)] if tenant else []
            ),
            static_summary=describe_order(order),
        )
    except FailureError as error:
        workflow.logger.info(f"Its end is not told again: {error}")
