"""Failures as they are sent to Temporal."""

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


def test_application_error_is_sent_without_a_stack_trace() -> None:
    failure = write(ApplicationError("The store is away. Try again.", type="StoreUnavailable"))
    assert failure.message == "The store is away. Try again."
    assert failure.application_failure_info.type == "StoreUnavailable"
    assert failure.stack_trace == ""


def test_unexpected_error_keeps_its_stack_trace() -> None:
    failure = write(KeyError("usage"))
    read = DATA_CONVERTER.failure_converter.from_failure(failure, DATA_CONVERTER.payload_converter)
    assert "test_data_converter" in failure.stack_trace
    assert "test_data_converter" in write(read).stack_trace
