"""What Temporal is told of a failure: whole sentences, within what it keeps."""

import pytest
from temporalio.api.failure.v1 import Failure
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ApplicationError

from activities.errors import to_application_error, translate_errors
from gpt_image_runs.database.errors import LedgerUnavailable
from gpt_image_runs.provider.errors import LONGEST_MESSAGE, AuthenticationFailed, RateLimited, ServerError

KEPT_BY_TEMPORAL = 4 * 1024
STACK_TRACE = 600
"""Bytes, generously: of a failure that is raised without its causes."""


def measure(error: ApplicationError) -> int:
    """The bytes of a failure as it goes to Temporal."""
    failure = Failure()
    pydantic_data_converter.failure_converter.to_failure(
        error, pydantic_data_converter.payload_converter, failure
    )
    return failure.ByteSize()


@pytest.mark.parametrize("letter", ["x", "\u00e4", "\u754c", "\U0001f600", '"'])
def test_a_long_message_of_the_provider_s(letter: str) -> None:
    """The longest message in any script, with long labels, fits, and the advice at its end is still there."""
    failure = ServerError(
        http_status=500,
        provider_message=letter * LONGEST_MESSAGE,
        code="c" * 200,
        provider_request_id="r" * 200,
    )

    told = to_application_error(failure, "att_" + "0" * 32)

    assert measure(told) <= KEPT_BY_TEMPORAL - STACK_TRACE
    assert told.message.startswith("The provider failed while it worked on the request (HTTP 500, ccc")
    assert told.message.endswith(failure.advice)


def test_a_short_message_is_told_whole() -> None:
    """What the provider says in a sentence stands in the failure as it is."""
    failure = ServerError(http_status=500, provider_message="The server had an error.")

    told = to_application_error(failure, "att_1")

    assert told.message == str(failure)
    assert told.details[0]["outcome"] == "rejected"


def test_patience() -> None:
    """Where what was paid waits behind a question that costs nothing, even a refused key is tried again."""
    refused = AuthenticationFailed(http_status=401)

    assert to_application_error(refused).non_retryable
    assert not to_application_error(refused, patient=True).non_retryable


@pytest.mark.parametrize(("told_seconds", "least", "most"), [(0.02, 1.0, 1.25), (8.0, 8.0, 10.0)])
def test_the_wait(told_seconds: float, least: float, most: float) -> None:
    """The provider's wait is kept with up to a quarter more, and is never below a second."""
    failure = RateLimited(http_status=429, retry_after_seconds=told_seconds)

    delay = to_application_error(failure, "att_1").next_retry_delay

    assert delay is not None
    assert least <= delay.total_seconds() <= most


def test_a_long_sentence_of_our_own() -> None:
    """A ledger's failure fits too, however much its driver has to say."""
    with pytest.raises(ApplicationError) as raised, translate_errors():
        raise LedgerUnavailable("\u754c" * 10_000)

    assert measure(raised.value) <= KEPT_BY_TEMPORAL
    assert raised.value.type == "LedgerUnavailable"
