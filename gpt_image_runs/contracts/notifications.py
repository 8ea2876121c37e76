"""Notifications of a run's end: the order for one destination, its delivery, and the ids of both."""

import hashlib
from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from gpt_image_runs.contracts.base import Contract, SparseContract
from gpt_image_runs.contracts.request import Destination
from gpt_image_runs.contracts.result import RunResult

_MAX_ID = 500

RunEnd = Literal["completed", "failed", "cancelled"]


class RunFailure(Contract):
    """A run that has no result, as a notification tells it. `type` and `message` are those of its failure in Temporal."""

    run_id: str = Field(description="The run's id.")
    status: Literal["failed", "cancelled"] = Field(description="failed or cancelled.")
    type: str = Field(
        description="The failure's type, as in Temporal; docs/reference/failures.md has them all."
    )
    message: str = Field(description="What is wrong and what to do, for people.")


class NotificationOrder(SparseContract):
    """One event for one destination: the end of a run, with its `result` where it has completed, else its `failure`.

    `event_id` is the same for all deliveries of one event, `time` is when the run ended.
    """

    event: RunEnd
    event_id: Annotated[str, Field(pattern=r"^evt_[0-9a-f]{32}$")]
    run_id: str
    url: Destination
    time: datetime
    result: RunResult | None = None
    failure: RunFailure | None = None

    @model_validator(mode="after")
    def _tells_something(self) -> Self:
        if (self.result is None) == (self.failure is None):
            raise ValueError("a result or a failure")
        return self


class Delivery(Contract):
    """A notification that was taken: the receiver's HTTP status, and at which attempt."""

    event_id: str
    http_status: int
    attempts: int


def event_id_for(run_id: str, event: RunEnd, execution_id: str) -> str:
    """Return the id of an event: "evt_" and 32 hex digits.

    A run completes once, however often it is submitted; it may fail more than once, each time in another execution.
    """
    occasion = "" if event == "completed" else execution_id
    return f"evt_{_digest(run_id, event, occasion)[:32]}"


def notification_id_for(run_id: str, event_id: str, url: str) -> str:
    """Return the id of the workflow that notifies one destination: "notify:image:acme:req-1:5f2c01aa"."""
    # A refused run may have any id that Temporal takes, and this one has to be taken too.
    subject = run_id if len(run_id.encode()) <= _MAX_ID else _digest(run_id)
    return f"notify:{subject}:{_digest(event_id, url)[:8]}"


def message_id_for(event_id: str, namespace: str) -> str:
    """Return the `webhook-id` of an event: its id and 8 hex digits of the namespace.

    Runs of the same id may end in several namespaces.
    """
    return f"{event_id}-{_digest(namespace)[:8]}"


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
