"""Records of an attempt: what is known before it is sent, what is learned after, and the row of both. No database here."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import uuid4

from pydantic import JsonValue

Outcome = Literal["succeeded", "rejected", "not_sent", "unknown"]


def new_attempt_id() -> str:
    return f"att_{uuid4().hex}"


@dataclass(frozen=True, kw_only=True)
class NewAttempt:
    """An HTTP request that is about to be sent. `reserved_micro_usd` is its worst case, None where no price is known.

    `batch_part` names the part of an economy batch that this attempt is a line of; None for a request of its own.
    """

    run_id: str
    workflow_run_id: str
    model: str
    provider: str
    sent_at: datetime
    reserved_micro_usd: int | None = None
    simulated: bool = False
    batch_part: str | None = None
    attempt_id: str = field(default_factory=new_attempt_id)


@dataclass(frozen=True, kw_only=True)
class AttemptOutcome:
    """The outcome of an attempt. A field that is None was not learned, and leaves what the attempt already has.

    `response` is the provider's whole answer without picture bytes, `raw_body` the beginning of one that could not be
    parsed, `images` image refs as JSON objects. `size`, `quality` and the like are the effective ones.
    """

    outcome: Outcome
    finished_at: datetime
    latency_ms: int | None = None
    http_status: int | None = None
    provider_request_id: str | None = None
    error_type: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    size: str | None = None
    quality: str | None = None
    output_format: str | None = None
    background: str | None = None
    response: JsonValue = None
    raw_body: str | None = None
    images: tuple[dict[str, Any], ...] | None = None
    simulated: bool | None = None


@dataclass(frozen=True, kw_only=True)
class EndedAttempt:
    """An attempt whose outcome was just written, for metrics."""

    model: str
    sent_at: datetime
    simulated: bool
    outcome: AttemptOutcome


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """A row of `provider_attempts`: see `NewAttempt` and `AttemptOutcome`. `number` counts a run's attempts from 1."""

    attempt_id: str
    run_id: str
    number: int
    client_request_id: str
    workflow_run_id: str
    model: str
    provider: str
    outcome: Outcome
    reserved_micro_usd: int | None
    sent_at: datetime
    finished_at: datetime | None
    latency_ms: int | None
    http_status: int | None
    provider_request_id: str | None
    error_type: str | None
    error_code: str | None
    error_message: str | None
    size: str | None
    quality: str | None
    output_format: str | None
    background: str | None
    response: JsonValue
    raw_body: str | None
    images: tuple[dict[str, Any], ...] | None
    simulated: bool
    batch_part: str | None = None
    recovered_at: datetime | None = None
