"""From what came of a request to what the ledger keeps of the attempt. Pure, apart from the clock."""

import dataclasses
from datetime import UTC, datetime

from billing.attempt_records import AttemptOutcome
from contracts.images import ImageRef
from imaging.answers import Answer
from imaging.client import RawAnswer
from imaging.errors import ProviderFailure
from imaging.store_errors import StoreFailure


def describe_delivery(raw: RawAnswer, answer: Answer, images: tuple[ImageRef, ...]) -> AttemptOutcome:
    """Pictures came and are in the store. The message says so where others were asked for, or some cannot be used."""
    return AttemptOutcome(
        outcome="succeeded",
        finished_at=datetime.now(UTC),
        latency_ms=raw.latency_ms,
        http_status=raw.http_status,
        provider_request_id=raw.provider_request_id,
        error_message=answer.shortfall,
        size=answer.size,
        quality=answer.quality,
        output_format=answer.output_format,
        background=answer.background,
        response=answer.response,
        images=tuple(image.model_dump(mode="json") for image in images),
        simulated=raw.simulated,
    )


def describe_undelivered(raw: RawAnswer, failure: ProviderFailure) -> AttemptOutcome:
    """The provider answered with success and reported usage, but no picture can be used: paid for, and to be billed."""
    return dataclasses.replace(
        describe_failure(failure),
        outcome="succeeded",
        latency_ms=raw.latency_ms,
        images=(),
        simulated=raw.simulated,
    )


def describe_failure(failure: ProviderFailure) -> AttemptOutcome:
    """No pictures came: refused, not sent, or nobody knows."""
    body = failure.raw_body
    return AttemptOutcome(
        outcome=failure.outcome,
        finished_at=datetime.now(UTC),
        http_status=failure.http_status,
        provider_request_id=failure.provider_request_id,
        error_type=type(failure).__name__,
        error_code=failure.code,
        error_message=str(failure),
        response=failure.response,
        raw_body=None if body is None else body.decode("utf-8", "backslashreplace"),
    )


def describe_unkept(failure: StoreFailure) -> AttemptOutcome:
    """Pictures came, and the store stayed away: paid for nothing, as far as anybody can tell."""
    return AttemptOutcome(
        outcome="unknown",
        finished_at=datetime.now(UTC),
        error_type=type(failure).__name__,
        error_message=f"The provider answered, and its pictures could not be kept. {failure}",
    )
