"""The end of a run as a CloudEvent (1.0, structured JSON). Pure, and the same text for the same order."""

import json
from datetime import UTC

from contracts.notifications import NotificationOrder

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
