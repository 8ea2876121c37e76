"""How a failure becomes what Temporal acts on: its type, whether to try again, and when."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from gpt_image_runs.billing.attempts.call_terms import TermsRefused
from gpt_image_runs.contracts import names
from gpt_image_runs.database.errors import (
    BatchConflict,
    BudgetExceeded,
    CorrectionRefused,
    LedgerError,
    RunConflict,
)
from gpt_image_runs.images.backend import StoreFailure
from gpt_image_runs.images.input_memory import InputMemoryFull
from gpt_image_runs.images.inputs import InputsRefused
from gpt_image_runs.provider.error_mapping import with_jitter
from gpt_image_runs.provider.errors import ProviderFailure

LONGEST_MESSAGE = 1_200
"""Bytes of somebody else's words in a failure. Temporal keeps the last failure of a waiting activity up to 4 KiB, with its
details and stack trace; of a longer one an operator would read "Failure exceeds size limit". The ledger has them whole."""

INPUT_MEMORY_FULL = "InputMemoryFull"
MIN_WAIT_SECONDS = 1.0
"""A busy provider says "try again in 20ms", and says it again: each time would be another row, dozens in a second."""


def to_application_error(
    failure: ProviderFailure,
    attempt_id: str | None = None,
    *,
    attempts: int | None = None,
    patient: bool = False,
) -> ApplicationError:
    """The failure under its own type name, with the provider's delay, and with what an operator wants to know.

    `attempts` is how many requests were sent for the run by then. `patient`: it is tried again whatever it is, as what was
    paid for waits behind it and asking costs nothing.
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
        # The provider's failures are no defects of ours: they have a log line and a row, and need no stack trace.
        category=ApplicationErrorCategory.BENIGN,
    )


def shorten(text: str, most: int = LONGEST_MESSAGE) -> str:
    """A text of at most that many bytes and three dots."""
    whole = text.encode("utf-8", "replace")
    return text if len(whole) <= most else whole[:most].decode("utf-8", "ignore") + "..."


@contextmanager
def translate_errors() -> Iterator[None]:
    """Turns what our own rooms raise into failures that say their sentence and no more: no causes, and no stack traces of
    a database driver, which would be too long for Temporal (see `LONGEST_MESSAGE`).
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
            # It has waited for long already, and takes its place in line again.
            next_retry_delay=timedelta(seconds=with_jitter(MIN_WAIT_SECONDS, random.SystemRandom())),
            category=ApplicationErrorCategory.BENIGN,
        ) from None
    except (LedgerError, StoreFailure) as error:
        is_refusal = isinstance(error, RunConflict | CorrectionRefused | BudgetExceeded | BatchConflict)
        raise ApplicationError(
            shorten(str(error)),
            type=type(error).__name__,
            non_retryable=is_refusal,
            # Somebody asked for what cannot be: no defect, and no stack trace in the log.
            category=ApplicationErrorCategory.BENIGN if is_refusal else ApplicationErrorCategory.UNSPECIFIED,
        ) from None
