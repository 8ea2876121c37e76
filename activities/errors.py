"""Translate errors into Temporal's ApplicationError: its type, whether it is retried, and when."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from gpt_image_runs.billing.attempts.call_terms import TermsRefused
from gpt_image_runs.contracts import names
from gpt_image_runs.database.errors import LedgerError
from gpt_image_runs.images.backend import StoreFailure
from gpt_image_runs.images.input_memory import InputMemoryFull
from gpt_image_runs.images.inputs import InputsRefused
from gpt_image_runs.provider.error_mapping import with_jitter
from gpt_image_runs.provider.errors import ProviderFailure

# Bytes of a message from outside. Temporal keeps up to 4 KiB of the last failure of a pending activity, with its details and
# stack trace, and replaces a longer one with "Failure exceeds size limit". The ledger has the whole message.
MAX_MESSAGE_BYTES = 1_200

INPUT_MEMORY_FULL = "InputMemoryFull"
# A busy provider says "try again in 20ms" again and again: each time would be another attempt, dozens in a second.
MIN_WAIT_SECONDS = 1.0


def to_application_error(
    failure: ProviderFailure,
    attempt_id: str | None = None,
    *,
    attempts: int | None = None,
    patient: bool = False,
) -> ApplicationError:
    """Build the error of a provider's failure: its type name, the provider's delay, and facts for an operator.

    `attempts` is how many requests were sent for the run so far. `patient` makes every failure retryable: for calls that
    cost nothing and that something paid for depends on.
    """
    wait = failure.retry_after_seconds
    facts = {
        "attempt_id": attempt_id,
        "attempts": attempts,
        "outcome": failure.outcome,
        "http_status": failure.http_status,
        "code": failure.code,
        "provider_request_id": failure.provider_request_id,
    }
    return ApplicationError(
        str(failure).replace(failure.provider_message, shorten(failure.provider_message)),
        {name: fact for name, fact in facts.items() if fact},
        type=type(failure).__name__,
        non_retryable=not (patient or failure.retryable),
        next_retry_delay=None
        if wait is None
        else timedelta(seconds=with_jitter(max(wait, MIN_WAIT_SECONDS), random.SystemRandom())),
        # Not a defect of this program: it has a log line and a row in the ledger, and needs no stack trace.
        category=ApplicationErrorCategory.BENIGN,
    )


def shorten(text: str, most: int = MAX_MESSAGE_BYTES) -> str:
    """Cut a text to `most` bytes, plus three dots if it was longer."""
    whole = text.encode("utf-8", "replace")
    return text if len(whole) <= most else whole[:most].decode("utf-8", "ignore") + "..."


@contextmanager
def translate_errors() -> Iterator[None]:
    """Translate errors of the ledger, the store and the input checks into ApplicationErrors with their message only.

    Causes and stack traces of a database driver would be too long for Temporal (see `MAX_MESSAGE_BYTES`).
    """
    try:
        yield
    except (InputsRefused, TermsRefused) as refused:
        raise ApplicationError(
            str(refused),
            *refused.problems,
            type=names.REQUEST_REFUSED,
            non_retryable=True,
            category=ApplicationErrorCategory.BENIGN,
        ) from None
    except InputMemoryFull as full:
        raise ApplicationError(
            str(full),
            type=INPUT_MEMORY_FULL,
            # It has waited for 30 seconds already, and queues again.
            next_retry_delay=timedelta(seconds=with_jitter(MIN_WAIT_SECONDS, random.SystemRandom())),
            category=ApplicationErrorCategory.BENIGN,
        ) from None
    except (LedgerError, StoreFailure) as error:
        is_refusal = isinstance(error, LedgerError) and not error.retryable
        raise ApplicationError(
            shorten(str(error)),
            type=type(error).__name__,
            non_retryable=is_refusal,
            # A refusal is not a defect: no stack trace in the log.
            category=ApplicationErrorCategory.BENIGN if is_refusal else ApplicationErrorCategory.UNSPECIFIED,
        ) from None
