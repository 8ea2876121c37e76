"""What a run makes of a failed attempt: of its call, told by a signal that anybody may send or as its own end, and of its bill."""

from typing import Any

from pydantic import ValidationError
from temporalio import workflow
from temporalio.exceptions import ApplicationError, FailureError

from contracts.failed_attempts import FailedAttempt

_LONGEST = 10_000
"""Characters of one as JSON, four times what the longest of ours has: it is shown on a page, and part of each answer to the query."""


def read_failed_attempt(payload: Any) -> FailedAttempt | None:
    """A `FailedAttempt` in parsed JSON that anybody may have sent, None where it is none or too long to be shown."""
    try:
        failed = FailedAttempt.model_validate(payload)
    except ValidationError:
        return None
    return failed if len(failed.model_dump_json()) <= _LONGEST else None


def describe_last_attempt(cause: ApplicationError | None, kind: str, message: str) -> FailedAttempt:
    """The attempt that a run fails with: there is no further one. What was sent is among the facts of the failure, where it was."""
    facts = cause.details[0] if cause and cause.details and isinstance(cause.details[0], dict) else {}
    return FailedAttempt(
        error_type=kind,
        message=message,
        failed_at=workflow.now(),
        attempts=facts.get("attempts"),
        attempt_id=facts.get("attempt_id"),
    )


def describe_waiting_step(error: FailureError) -> FailedAttempt:
    """Why a step after the call did not work at once: a regular activity tries it again from now on, for as long as it takes."""
    cause = error.cause if isinstance(error.cause, FailureError) else error
    return FailedAttempt(
        error_type=(cause.type if isinstance(cause, ApplicationError) else None) or type(cause).__name__,
        message=cause.message,
        failed_at=workflow.now(),
    )
