"""From an attempt that succeeded to what the workflow is told of it. Pure."""

import dataclasses
from datetime import UTC, datetime

from activities.errors import shorten
from activities.provider_call.image_saving import ImagesNotSaved
from gpt_image_runs.billing.pricing.paid_attempt import limit_usage_size
from gpt_image_runs.billing.records import Attempt, AttemptOutcome
from gpt_image_runs.contracts.calls import CallFailure, CallInput, CallResult
from gpt_image_runs.contracts.images import ImageRef
from gpt_image_runs.provider.client import RawAnswer
from gpt_image_runs.provider.errors import ProviderFailure
from gpt_image_runs.provider.responses import Answer


def apply_outcome(attempt: Attempt, outcome: AttemptOutcome) -> Attempt:
    """The attempt as the ledger holds it once the outcome is recorded."""
    learned = {name: value for name, value in vars(outcome).items() if value is not None}
    return dataclasses.replace(attempt, **learned)


def to_call_result(paid: Attempt, order: CallInput, attempts: int) -> CallResult:
    """The result of a run's call, from the attempt that was paid, whichever attempt found it."""
    usage, usage_problem = limit_usage_size(paid.response, paid.attempt_id)
    images = tuple(ImageRef.model_validate(image) for image in paid.images or ())
    failure = _describe_undelivered(paid) if paid.error_type and not images else None
    return CallResult(
        attempt_id=paid.attempt_id,
        attempts=attempts,
        model=paid.model,
        provider=paid.provider,
        provider_request_id=paid.provider_request_id,
        simulated=paid.simulated,
        operation=order.request.operation,
        images=images,
        usage=usage,
        usage_problem=usage_problem,
        size=paid.size,
        quality=paid.quality,
        output_format=paid.output_format,
        sent_at=paid.sent_at,
        mode="batch" if paid.batch_part else None,
        warnings=() if failure else _compare(images, order, paid),
        failure=failure,
    )


def _describe_undelivered(paid: Attempt) -> CallFailure:
    return CallFailure(error_type=paid.error_type or "", message=shorten(paid.error_message or ""))


def _compare(images: tuple[ImageRef, ...], order: CallInput, paid: Attempt) -> tuple[str, ...]:
    """Pictures that are not quite what was asked for are kept, as they were paid for; the operator is told."""
    warnings = []
    if paid.error_message:
        warnings.append(paid.error_message)
    elif len(images) != order.request.image_count:
        warnings.append(f"{order.request.image_count} pictures were asked for and {len(images)} delivered.")
    wanted = f"image/{order.request.output_format or 'png'}"
    others = {image.media_type for image in images} - {wanted}
    if others:
        warnings.append(f"{wanted} was asked for and {', '.join(sorted(others))} delivered.")
    sizes = {f"{image.width}x{image.height}" for image in images} - {paid.size}
    if paid.size and sizes:
        warnings.append(f"Size {paid.size} was reported and {', '.join(sorted(sizes))} delivered.")
    return tuple(warnings)


def succeeded_outcome(raw: RawAnswer, answer: Answer, images: tuple[ImageRef, ...]) -> AttemptOutcome:
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


def undelivered_outcome(raw: RawAnswer | None, failure: ProviderFailure) -> AttemptOutcome:
    """The provider reported usage, but no picture can be used: paid for, and to be billed.

    `raw` is the answer, None where it did not come whole.
    """
    return dataclasses.replace(
        failed_outcome(failure),
        outcome="succeeded",
        latency_ms=raw.latency_ms if raw else None,
        images=(),
        simulated=raw.simulated if raw else None,
    )


def failed_outcome(failure: ProviderFailure) -> AttemptOutcome:
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


def unsaved_outcome(raw: RawAnswer, answer: Answer, failure: ImagesNotSaved) -> AttemptOutcome:
    """Build the outcome of an answer whose pictures, or some of them, could not be stored: paid for, and to be billed.

    It has an error type where no picture is left: then the run fails after it is billed.
    """
    came, saved = len(answer.pictures), len(failure.saved)
    pictures, lost = ("1 picture", "it") if came == 1 else (f"{came} pictures", f"{came - saved} of them")
    return dataclasses.replace(
        succeeded_outcome(raw, answer, failure.saved),
        error_type=None if saved else type(failure).__name__,
        error_message=(
            f"The provider answered with {pictures}, and {lost} could not be stored. This is lost, and nothing is sent again under"
            f" this request_id. What the answer reported is on the run's bill. {failure}"
        ),
    )
