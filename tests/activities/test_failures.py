"""Errors for Temporal: complete messages, within the size that it keeps."""

import pytest
from temporalio.api.failure.v1 import Failure
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ApplicationError

from activities.errors import to_application_error, translate_errors
from gpt_image_runs.database.errors import LedgerUnavailable
from gpt_image_runs.provider.errors import LONGEST_MESSAGE, AuthenticationFailed, RateLimited, ServerError

MAX_FAILURE_BYTES = 4 * 1024
# Generous, for a failure that is raised without its causes.
STACK_TRACE_BYTES = 600


def measure(error: ApplicationError) -> int:
    """Return the size in bytes of a failure as it is sent to Temporal."""
    failure = Failure()
    pydantic_data_converter.failure_converter.to_failure(
        error, pydantic_data_converter.payload_converter, failure
    )
    return failure.ByteSize()


@pytest.mark.parametrize("letter", ["x", "\u00e4", "\u754c", "\U0001f600", '"'])
def test_longest_provider_message_fits_with_its_advice(letter: str) -> None:
    failure = ServerError(
        http_status=500,
        provider_message=letter * LONGEST_MESSAGE,
        code="c" * 200,
        provider_request_id="r" * 200,
    )

    error = to_application_error(failure, "att_" + "0" * 32)

    assert measure(error) <= MAX_FAILURE_BYTES - STACK_TRACE_BYTES
    assert error.message.startswith("The provider failed while it worked on the request (HTTP 500, ccc")
    assert error.message.endswith(failure.advice)


def test_short_provider_message_is_not_cut() -> None:
    failure = ServerError(http_status=500, provider_message="The server had an error.")

    error = to_application_error(failure, "att_1")

    assert error.message == str(failure)
    assert error.details[0]["outcome"] == "rejected"


def test_patient_error_is_retryable_even_for_a_refused_key() -> None:
    """For calls that cost nothing and that something paid for depends on."""
    refused = AuthenticationFailed(http_status=401)

    assert to_application_error(refused).non_retryable
    assert not to_application_error(refused, patient=True).non_retryable


@pytest.mark.parametrize(("asked_seconds", "least", "most"), [(0.02, 1.0, 1.25), (8.0, 8.0, 10.0)])
def test_retry_delay_is_the_provider_s_with_jitter_and_at_least_a_second(
    asked_seconds: float, least: float, most: float
) -> None:
    failure = RateLimited(http_status=429, retry_after_seconds=asked_seconds)

    delay = to_application_error(failure, "att_1").next_retry_delay

    assert delay is not None
    assert least <= delay.total_seconds() <= most


def test_long_ledger_error_fits() -> None:
    with pytest.raises(ApplicationError) as raised, translate_errors():
        raise LedgerUnavailable("\u754c" * 10_000)

    assert measure(raised.value) <= MAX_FAILURE_BYTES
    assert raised.value.type == "LedgerUnavailable"
