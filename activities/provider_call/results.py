"""Build an attempt's outcome from an answer, and the activity's result from a paid attempt. Pure."""

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
    """Return the attempt as the ledger holds it once the outcome is recorded."""
    known = {name: value for name, value in vars(outcome).items() if value is not None}
    return dataclasses.replace(attempt, **known)


def to_call_result(paid: Attempt, call: CallInput, attempts: int) -> CallResult:
    """Build the result of a run's call from the attempt that was paid. `attempts` is how many requests were sent."""
    usage, usage_problem = limit_usage_size(paid.response, paid.attempt_id)
    images = tuple(ImageRef.model_validate(image) for image in paid.images or ())
    failure = _build_failure(paid) if paid.error_type and not images else None
    return CallResult(
        attempt_id=paid.attempt_id,
        attempts=attempts,
        model=paid.model,
        provider=paid.provider,
        provider_request_id=paid.provider_request_id,
        simulated=paid.simulated,
        operation=call.request.operation,
        images=images,
        usage=usage,
        usage_problem=usage_problem,
        size=paid.size,
        quality=paid.quality,
        output_format=paid.output_format,
        sent_at=paid.sent_at,
        mode="batch" if paid.batch_part else None,
        warnings=() if failure else _list_differences(images, call, paid),
        failure=failure,
    )


def _build_failure(paid: Attempt) -> CallFailure:
    return CallFailure(error_type=paid.error_type or "", message=shorten(paid.error_message or ""))


def _list_differences(images: tuple[ImageRef, ...], call: CallInput, paid: Attempt) -> tuple[str, ...]:
    """Return warnings about images that are not what was requested. They are saved, as they were paid for."""
    warnings = []
    if paid.error_message:
        warnings.append(paid.error_message)
    elif len(images) != call.request.image_count:
        warnings.append(f"{call.request.image_count} pictures were asked for and {len(images)} delivered.")
    wanted = f"image/{call.request.output_format or 'png'}"
    others = {image.media_type for image in images} - {wanted}
    if others:
        warnings.append(f"{wanted} was asked for and {', '.join(sorted(others))} delivered.")
    sizes = {f"{image.width}x{image.height}" for image in images} - {paid.size}
    if paid.size and sizes:
        warnings.append(f"Size {paid.size} was reported and {', '.join(sorted(sizes))} delivered.")
    return tuple(warnings)


def succeeded_outcome(raw: RawAnswer, answer: Answer, images: tuple[ImageRef, ...]) -> AttemptOutcome:
    """Build the outcome of an answer whose images are in the store. Its message says if some of them cannot be used."""
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
    """Build the outcome of an answer with usage and without a usable image: it was paid for, and is billed.

    `raw` is the answer, None if it was not received completely.
    """
    return dataclasses.replace(
        failed_outcome(failure),
        outcome="succeeded",
        latency_ms=raw.latency_ms if raw else None,
        images=(),
        simulated=raw.simulated if raw else None,
    )


def failed_outcome(failure: ProviderFailure) -> AttemptOutcome:
    """Build the outcome of a request without an answer to bill: rejected, not sent or unknown."""
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
    """Build the outcome of an answer of which some images, or all, could not be stored. It was paid for, and is billed.

    It has an error type if no image is left: then the run fails after it is billed.
    """
    came, saved = len(answer.pictures), len(failure.saved)
    pictures, lost = ("1 picture", "it") if came == 1 else (f"{came} pictures", f"{came - saved} of them")
    return dataclasses.replace(
        succeeded_outcome(raw, answer, failure.saved),
        error_type=None if saved else type(failure).__name__,
        error_message=(
            f"The provider answered with {pictures}, and {lost} could not be stored. This is lost, and nothing is sent again under"
            f" this request_id. The usage that the answer reported is on the run's bill. {failure}"
        ),
    )
