"""How a failure becomes what Temporal acts on: its type, whether to try again, and when."""

import random
from datetime import timedelta

from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from billing.errors import RunConflict
from contracts import names
from imaging.errors import ProviderFailure
from imaging.inputs import InputsRefused
from imaging.retry_after import with_jitter


def describe_provider_failure(failure: ProviderFailure, attempt_id: str) -> ApplicationError:
    """The failure under its own type name, with the provider's delay, and with what an operator wants to know."""
    wait = failure.retry_after_seconds
    facts = {
        "attempt_id": attempt_id,
        "outcome": failure.outcome,
        "http_status": failure.http_status,
        "code": failure.code,
        "provider_request_id": failure.provider_request_id,
        "provider_message": failure.provider_message,
    }
    return ApplicationError(
        str(failure),
        {name: fact for name, fact in facts.items() if fact},
        type=type(failure).__name__,
        non_retryable=not failure.retryable,
        next_retry_delay=None
        if wait is None
        else timedelta(seconds=with_jitter(wait, random.SystemRandom())),
        # The provider's failures are no defects of ours: they have a log line and a row, and need no stack trace.
        category=ApplicationErrorCategory.BENIGN,
    )


def describe_refused_inputs(refused: InputsRefused) -> ApplicationError:
    """Pictures that cannot be sent: the same list of problems as the check before gives."""
    return ApplicationError(str(refused), *refused.problems, type=names.REQUEST_REFUSED, non_retryable=True)


def describe_conflict(conflict: RunConflict) -> ApplicationError:
    """A request id that stands for something else: nothing was sent, and nothing ever will be under it."""
    return ApplicationError(str(conflict), type=RunConflict.__name__, non_retryable=True)
