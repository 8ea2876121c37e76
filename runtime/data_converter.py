"""How values and failures travel to Temporal: pydantic's JSON, and of a failure that was foreseen its words alone."""

import dataclasses

from temporalio.api.failure.v1 import Failure
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import DefaultFailureConverter, PayloadConverter
from temporalio.exceptions import ApplicationError


class WordsOfFailures(DefaultFailureConverter):
    """Drops the stack trace of each `ApplicationError`: it was raised on purpose, with a sentence that says what to do.

    Where that was raised in the code is nothing for the page of a run, and a third of a failed run's history. Anything
    else that is raised was not foreseen, and keeps its trace.
    """

    def to_failure(
        self, exception: BaseException, payload_converter: PayloadConverter, failure: Failure
    ) -> None:
        """Writes an exception as a failure. See the base class."""
        super().to_failure(exception, payload_converter, failure)
        # One that came from elsewhere is passed on as it came.
        if isinstance(exception, ApplicationError) and exception.failure is None:
            failure.ClearField("stack_trace")


DATA_CONVERTER = dataclasses.replace(pydantic_data_converter, failure_converter_class=WordsOfFailures)
