"""`notify`: one event to one receiver, one HTTP request. Temporal sees to the attempts after that."""

import random
from datetime import UTC, datetime, timedelta

import structlog
from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from activities.cloud_events import MEDIA_TYPE, write_event
from contracts import names
from contracts.notifications import Delivery, NotificationOrder, message_id_for
from imaging.retry_after import retry_after_seconds, with_jitter
from runtime.webhook_client import WebhookClient
from runtime.webhook_destinations import describe_destination
from runtime.webhook_errors import WebhookFailure

LONGEST_WAIT_SECONDS = 6 * 3600
"""A receiver that asks for more is asked again after this, as after any other failure (workflows.policies.NOTIFY_RETRY)."""

log = structlog.get_logger("notify")


class Notifier:
    """Tells receivers of the ends of runs."""

    def __init__(self, client: WebhookClient) -> None:
        self._client = client

    @activity.defn(name=names.NOTIFY)
    async def notify(self, order: NotificationOrder) -> Delivery:
        """Sends the event; each attempt sends the same body under the same id.

        Raises:
            DestinationRefused: the settings do not allow it, or it is no public address.
            NotificationRejected: the receiver does not want it.
            ReceiverUnavailable: tried again, after the receiver's `retry-after` where it has one.
        """
        info = activity.info()
        event = write_event(order, info.namespace)
        message_id = message_id_for(order.event_id, info.namespace)
        try:
            status = await self._client.send(order.url, message_id, event, MEDIA_TYPE)
        except WebhookFailure as failure:
            raise _describe_failure(failure) from None
        log.info("The run's end is told.", run_id=order.run_id, to=describe_destination(order.url))
        return Delivery(event_id=order.event_id, http_status=status, attempts=info.attempt)


def _describe_failure(failure: WebhookFailure) -> ApplicationError:
    headers = {"retry-after": failure.retry_after or ""}
    wait = retry_after_seconds(headers, "", datetime.now(UTC), LONGEST_WAIT_SECONDS)
    return ApplicationError(
        str(failure),
        type=type(failure).__name__,
        non_retryable=not failure.retryable,
        next_retry_delay=None
        if wait is None
        else timedelta(seconds=with_jitter(max(wait, 1.0), random.SystemRandom())),
        category=ApplicationErrorCategory.BENIGN,
    )
