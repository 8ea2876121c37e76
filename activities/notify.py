"""`notify`: one event to one receiver, one HTTP request. Temporal sees to the attempts after that."""

import json
import random
from datetime import UTC, datetime, timedelta

import structlog
from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.notifications import Delivery, NotificationOrder, message_id_for
from gpt_image_runs.provider.error_mapping import retry_after_seconds, with_jitter
from gpt_image_runs.webhooks.allowlist import describe_destination
from gpt_image_runs.webhooks.client import WebhookClient, WebhookFailure

log = structlog.get_logger("notify")


MEDIA_TYPE = "application/cloudevents+json"


def write_event(order: NotificationOrder, namespace: str) -> str:
    """The event: what a caller of the workflow gets too, the result or the failure, as its data."""
    data = order.result or order.failure
    kind = "run-result" if order.result else "run-failure"
    event = {
        "specversion": "1.0",
        "id": order.event_id,
        "source": f"urn:gpt-image-runs:namespace:{namespace}",
        "type": f"gpt-image-runs.run.{order.event}",
        "subject": order.run_id,
        "time": order.time.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "datacontenttype": "application/json",
        "dataschema": f"urn:gpt-image-runs:{kind}",
        "data": data.model_dump(mode="json") if data else None,
    }
    return json.dumps(event, ensure_ascii=False, separators=(",", ":"))


MAX_WAIT_SECONDS = 6 * 3600
"""A receiver that asks for more is asked again after this, as after any other failure (workflows.retry_policies.NOTIFY_RETRY)."""


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
    headers = {"retry-after": failure.retry_after or "", "date": failure.date or ""}
    wait = retry_after_seconds(headers, "", datetime.now(UTC), MAX_WAIT_SECONDS)
    return ApplicationError(
        str(failure),
        type=type(failure).__name__,
        non_retryable=not failure.retryable,
        next_retry_delay=None
        if wait is None
        else timedelta(seconds=with_jitter(max(wait, 1.0), random.SystemRandom())),
        category=ApplicationErrorCategory.BENIGN,
    )
