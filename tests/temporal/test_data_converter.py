"""Failures on their way to Temporal."""

from temporalio.api.failure.v1 import Failure
from temporalio.exceptions import ApplicationError

from gpt_image_runs.temporal.connection import DATA_CONVERTER


def write(error: BaseException) -> Failure:
    failure = Failure()
    try:
        raise error  # noqa: TRY301 - here is where its trace begins
    except BaseException as raised:  # noqa: BLE001 - it is raised to have a trace
        DATA_CONVERTER.failure_converter.to_failure(raised, DATA_CONVERTER.payload_converter, failure)
    return failure


def test_a_foreseen_failure_is_its_words() -> None:
    """What was raised on purpose has its message, its type and no stack trace."""
    failure = write(ApplicationError("The store is away. Try again.", type="StoreUnavailable"))
    assert failure.message == "The store is away. Try again."
    assert failure.application_failure_info.type == "StoreUnavailable"
    assert failure.stack_trace == ""


def test_an_unforeseen_error_keeps_its_trace() -> None:
    """What nobody foresaw says where it was raised, also after it was read and written once more."""
    failure = write(KeyError("usage"))
    read = DATA_CONVERTER.failure_converter.from_failure(failure, DATA_CONVERTER.payload_converter)
    assert "test_data_converter" in failure.stack_trace
    assert "test_data_converter" in write(read).stack_trace
