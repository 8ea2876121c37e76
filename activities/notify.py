"""The activity `notify`: send one event to one receiver in one HTTP request. Temporal retries it."""

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


def build_event(order: NotificationOrder, namespace: str) -> str:
    """Return the event as JSON. Its data is the run's result or failure."""
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


# A receiver that asks for a longer wait gets the event again after this (see workflows.retry_policies.NOTIFY_RETRY).
MAX_WAIT_SECONDS = 6 * 3600


class Notifier:
    """Sends events about the ends of runs to their receivers."""

    def __init__(self, client: WebhookClient) -> None:
        self._client = client

    @activity.defn(name=names.NOTIFY)
    async def notify(self, order: NotificationOrder) -> Delivery:
        """Send the event. Each attempt sends the same body under the same id.

        Raises:
            DestinationRefused: the settings do not allow the URL, or it is not a public address.
            NotificationRejected: the receiver rejects it.
            ReceiverUnavailable: retried, after the receiver's `retry-after` if it sends one.
        """
        info = activity.info()
        event = build_event(order, info.namespace)
        message_id = message_id_for(order.event_id, info.namespace)
        try:
            status = await self._client.send(order.url, message_id, event, MEDIA_TYPE)
        except WebhookFailure as failure:
            raise _to_application_error(failure) from None
        log.info("notification_delivered", run_id=order.run_id, to=describe_destination(order.url))
        return Delivery(event_id=order.event_id, http_status=status, attempts=info.attempt)


def _to_application_error(failure: WebhookFailure) -> ApplicationError:
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
