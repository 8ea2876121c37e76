"""How the ends of runs become the ends of commands."""

import pytest
from temporalio.exceptions import ApplicationError, CancelledError
from temporalio.service import RPCError, RPCStatusCode

from cli.error_messages import explain
from cli.errors import RequestRefused, WaitInterrupted
from cli.runs.follow import failed_outcome

RUN = "image:acme:req-1"
PROBLEM = {"field": "n", "value": "0", "allowed": "a whole number from 1 to 10"}


def test_a_run_that_was_refused_has_its_problems() -> None:
    """A run that the worker refused ends as a refusal, with status 2 and the worker's list."""
    refused = failed_outcome(RUN, ApplicationError("Refused.", PROBLEM, type="RequestRefused"))

    assert isinstance(refused, RequestRefused)
    assert refused.exit_status == 2
    assert refused.document() == {
        "status": "refused",
        "message": "Refused.",
        "problems": [PROBLEM],
        "run_id": RUN,
    }


def test_conflict_has_status_2() -> None:
    """A request id that stands for something else is refused, as nothing was sent."""
    assert failed_outcome(RUN, ApplicationError("Conflict.", type="RunConflict")).exit_status == 2


def test_a_failure_of_the_provider_has_status_1() -> None:
    """A run that the provider failed names the failure's type and words."""
    failed = failed_outcome(RUN, ApplicationError("Too much.", {"http_status": 429}, type="QuotaExhausted"))

    assert failed.exit_status == 1
    assert failed.document() == {
        "status": "failed",
        "message": "The run failed: QuotaExhausted: Too much.",
        "run_id": RUN,
        "failure_type": "QuotaExhausted",
    }


def test_cancelled_run_names_its_failure_type() -> None:
    """A run that somebody cancelled ended without a result."""
    cancelled = failed_outcome(RUN, CancelledError("Workflow cancelled"))

    assert cancelled.document()["failure_type"] == "Cancelled"
    assert str(cancelled) == f"The run {RUN} ended without a result: Workflow cancelled."


def test_an_interrupted_wait_says_how_to_attach() -> None:
    """Ctrl-C ends the waiting with the status that shells expect, and says that the run goes on."""
    interrupted = WaitInterrupted(RUN)

    assert interrupted.exit_status == 130
    assert str(interrupted) == f"The run continues. Attach to it again: python starter.py wait {RUN}"


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (RPCStatusCode.PERMISSION_DENIED, "Temporal denied access: no. Check TEMPORAL_API_KEY"),
        (RPCStatusCode.UNAUTHENTICATED, "Temporal denied access: no. Check TEMPORAL_API_KEY"),
        (RPCStatusCode.UNAVAILABLE, "The Temporal server no longer answers."),
        (RPCStatusCode.INVALID_ARGUMENT, "Temporal answered INVALID_ARGUMENT: no."),
    ],
)
def test_rpc_error_is_one_sentence(status: RPCStatusCode, sentence: str) -> None:
    """An error of Temporal's says what to look at."""
    assert str(explain(RPCError("no", status, b""))).startswith(sentence)
