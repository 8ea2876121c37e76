"""The workflow that sends one notification of a run's end, and how a run starts it.

The run does not wait for its notification, and does not fail with it.
"""

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

# Characters. Temporal accepts a summary of at most 400 bytes.
_MAX_HOST = 200


def describe_order(order: NotificationOrder) -> str:
    """Format the event and the receiver's host for lists. The URL's path is left out, as it may contain a token."""
    return f"{order.event}: told to {urlsplit(order.url).netloc[:_MAX_HOST]}"


def describe_waiting(order: NotificationOrder) -> str:
    """Format the Web UI page of a notification that is not delivered yet."""
    return f"**Not taken yet**\n\n{_describe_event(order)}"


def describe_delivery(order: NotificationOrder, delivery: Delivery) -> str:
    """Format the page of a delivered notification."""
    attempts = "1 attempt" if delivery.attempts == 1 else f"{delivery.attempts} attempts"
    return f"**Delivered** · {delivery.http_status} · {attempts}\n\n{_describe_event(order)}"


def describe_end(order: NotificationOrder, reason: str) -> str:
    """Format the page of a notification that could not be delivered."""
    return f"**Not delivered**\n\n{_describe_event(order)}\n\n**Reason:** {quote(reason)}"


def _describe_event(order: NotificationOrder) -> str:
    return f"{quote(order.run_id)}, {describe_order(order)}"


@workflow.defn(name=names.NOTIFICATION)
class Notification:
    """One event for one receiver, retried for three days."""

    @workflow.run
    async def run(self, order_json: RawValue = NOTHING) -> Delivery:
        """Deliver one `NotificationOrder`.

        Raises:
            ApplicationError: type `RequestRefused` if the order is not valid, `NotificationGivenUp` after three days, or the
                type of the failure that ended it.
        """
        order = self._read(read_argument(order_json))
        workflow.set_current_details(describe_waiting(order))
        try:
            delivery = await self._deliver(order)
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            raise self._delivery_error(order, error) from None
        workflow.set_current_details(describe_delivery(order, delivery))
        return delivery

    def _read(self, payload: Any) -> NotificationOrder:
        try:
            return NotificationOrder.model_validate(payload)
        except ValidationError as error:
            wrong = ", ".join(sorted({".".join(map(str, detail["loc"])) for detail in error.errors()}))
            message = f"This is not a valid notification order: {wrong or 'it'} cannot be read. Only runs start notifications."
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

    def _delivery_error(self, order: NotificationOrder, error: ActivityError) -> ApplicationError:
        """Return the error of a failed delivery, with the receiver's last response even if the time has run out."""
        cause = error.cause
        while cause is not None and not isinstance(cause, ApplicationError):
            cause = cause.__cause__
        message = (
            cause.message if isinstance(cause, ApplicationError) else "No worker has tried to deliver it."
        )
        workflow.set_current_details(describe_end(order, message))
        if isinstance(cause, ApplicationError) and cause.non_retryable:
            return ApplicationError(message, type=cause.type, non_retryable=True)
        return ApplicationError(message, type=names.NOTIFICATION_GIVEN_UP, non_retryable=True)


# A separate class, as the server rejects a versioning behavior from workers without a build.
@workflow.defn(name=names.NOTIFICATION, versioning_behavior=VersioningBehavior.AUTO_UPGRADE)
class NotificationOfAnyBuild(Notification):
    """The notification workflow on workers with a build id. It is not pinned to a build as runs are.

    Otherwise a receiver that is unavailable would keep a build's workers running for three days.
    """

    @workflow.run
    async def run(self, order_json: RawValue = NOTHING) -> Delivery:
        """Run as `Notification.run` does."""
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
    """Notify of a run that was cancelled before its check, which is made now to know which URL is allowed."""
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
        # A reset execution has another id, and has to find the notification that it started before.
        event_id=event_id_for(run_id, event, info.first_execution_run_id),
        run_id=run_id,
        url=notify.url,
        time=workflow.now(),
        result=result,
        failure=failure,
    )
    # A cancellation at this point does not stop the notification.
    await run_shielded(_start_child(order), on_cancel=lambda: None)


async def _start_child(order: NotificationOrder) -> None:
    tenant = workflow.info().typed_search_attributes.get(names.TENANT)  # None in some refused runs
    try:
        await workflow.start_child_workflow(
            names.NOTIFICATION,
            order,
            id=notification_id_for(order.run_id, order.event_id, order.url),
            parent_close_policy=workflow.ParentClosePolicy.ABANDON,
            # A run that is submitted again completes again, and is notified once. Only a failed notification is sent again.
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY,
            search_attributes=TypedSearchAttributes(
                [SearchAttributePair(names.TENANT, tenant)] if tenant else []
            ),
            static_summary=describe_order(order),
        )
    except FailureError as error:
        workflow.logger.info("notification_not_started", extra={"error": str(error)})
