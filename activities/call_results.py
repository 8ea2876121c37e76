"""From an attempt that succeeded to what the workflow is told of it. Pure."""

import dataclasses

from activities.failures import shorten
from billing.attempt_pricing import carry_usage
from billing.attempt_records import Attempt, AttemptOutcome
from contracts.calls import CallFailure, CallInput, CallResult
from contracts.images import ImageRef


def settle_attempt(attempt: Attempt, outcome: AttemptOutcome) -> Attempt:
    """The attempt as the ledger holds it once the outcome is recorded."""
    learned = {name: value for name, value in vars(outcome).items() if value is not None}
    return dataclasses.replace(attempt, **learned)


def describe_success(paid: Attempt, order: CallInput, attempts: int) -> CallResult:
    """The result of a run's call, from the attempt that was paid, whichever attempt found it."""
    usage, usage_problem = carry_usage(paid.response, paid.attempt_id)
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
