"""The workflow that tells one destination of one run's end. The run has ended: it does not wait for this, and does not fail by it."""

from typing import Any

from pydantic import ValidationError
from temporalio import workflow
from temporalio.common import RawValue, VersioningBehavior
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from contracts import names
    from contracts.notifications import Delivery, NotificationOrder
    from workflows import policies
    from workflows.arguments import NOTHING, read_argument
    from workflows.notification_details import (
        describe_delivery,
        describe_end,
        describe_order,
        describe_waiting,
    )


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
        workflow.set_current_details(describe_delivery(order, delivery))
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
