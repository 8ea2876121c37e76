"""Errors that a caller sees for failures of Temporal and of runs, and what importing the client loads."""

import subprocess
import sys
from typing import Any

import pytest
from temporalio.client import Client
from temporalio.exceptions import ApplicationError, CancelledError, TerminatedError
from temporalio.service import RPCError, RPCStatusCode

from gpt_image_runs import (
    BudgetExceeded,
    NoAnswer,
    RunCancelled,
    RunConflict,
    RunFailed,
    RunNotFound,
    RunRefused,
    TemporalUnavailable,
)
from gpt_image_runs.client.errors import read_failure, temporal_errors

RUN = "image:acme:r-1"
PROBLEM = {"field": "n", "value": "11", "allowed": "a whole number from 1 to 10"}


def test_failure_types_of_runs_become_errors_of_their_own() -> None:
    refused = read_failure(RUN, ApplicationError("Refused.", PROBLEM, type="RequestRefused"))
    assert isinstance(refused, RunRefused)
    assert [problem.field for problem in refused.problems] == ["n"]
    assert type(read_failure(RUN, ApplicationError("No.", type="BudgetExceeded"))) is BudgetExceeded
    assert type(read_failure(RUN, ApplicationError("Other.", type="RunConflict"))) is RunConflict
    failed = read_failure(RUN, ApplicationError("Too much.", {"http_status": 429}, type="QuotaExhausted"))
    assert isinstance(failed, RunFailed)
    assert (failed.failure_type, failed.details) == ("QuotaExhausted", ({"http_status": 429},))
    assert type(read_failure(RUN, CancelledError("Workflow cancelled"))) is RunCancelled
    terminated = read_failure(RUN, TerminatedError("by hand"))
    assert isinstance(terminated, RunFailed)
    assert terminated.failure_type == "Terminated"


@pytest.mark.parametrize(
    ("status", "message", "expected", "words"),
    [
        (RPCStatusCode.NOT_FOUND, "workflow not found for ID: namespace-1", RunNotFound, "unknown"),
        (RPCStatusCode.RESOURCE_EXHAUSTED, "limit exceeded", TemporalUnavailable, "Repeat the call later"),
        (RPCStatusCode.NOT_FOUND, "Namespace shop is not found.", TemporalUnavailable, "TEMPORAL_NAMESPACE"),
        (RPCStatusCode.DEADLINE_EXCEEDED, "Timeout expired", NoAnswer, "silent"),
        (RPCStatusCode.FAILED_PRECONDITION, "no poller seen for task queue", NoAnswer, "silent"),
        (RPCStatusCode.UNAVAILABLE, "connection refused", TemporalUnavailable, "goes on when it is back"),
        (RPCStatusCode.PERMISSION_DENIED, "Request unauthorized.", TemporalUnavailable, "TEMPORAL_API_KEY"),
    ],
)
async def test_rpc_errors_become_sentences(
    status: RPCStatusCode, message: str, expected: type[Exception], words: str
) -> None:
    temporal = await Client.connect("127.0.0.1:1", lazy=True)
    unknown, silent = RunNotFound("unknown", run_id=RUN), NoAnswer("silent", run_id=RUN)
    with (
        pytest.raises(expected, match=words),
        temporal_errors(temporal, not_found=unknown, no_answer=silent),
    ):
        raise RPCError(message, status, b"")


def load(statement: str) -> set[str]:
    """Return the top-level packages and our own modules that a new process has loaded after a statement."""
    program = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_client_needs_only_pydantic_and_temporalio() -> None:
    """The wheel without the extra `app` has nothing else."""
    loaded = load("from gpt_image_runs import Client, ClientError, Submission, BatchOrder")
    of_app: set[Any] = {"PIL", "obstore", "openai", "pydantic_settings", "sqlalchemy", "structlog", "typer"}

    assert loaded & of_app == set()
    ours = {".".join(name.split(".")[:2]) for name in loaded if name.startswith("gpt_image_runs.")}
    assert ours == {"gpt_image_runs.client", "gpt_image_runs.contracts"}


def test_contracts_do_not_load_a_temporal_client() -> None:
    assert "temporalio.client" not in load("from gpt_image_runs import ImageRequest, RunResult, run_id_for")


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ("return None", 0, ""),
        ("return 3", 3, ""),
        ("raise gpt_image_runs.NoAnswer('Nobody answered.')", 1, "NoAnswer: Nobody answered.\n"),
        ("raise KeyError('x')", 1, "KeyError: 'x'\n"),
    ],
)
def test_run_and_exit_ends_without_python_s_shutdown(body: str, status: int, told: str) -> None:
    program = f"""
import atexit, gpt_image_runs
atexit.register(print, "shut down")
async def main():
    print("done", end="")
    {body}
gpt_image_runs.run_and_exit(main())
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert (ended.returncode, ended.stdout) == (status, "done")
    assert ended.stderr.endswith(told)
    assert ("Traceback" in ended.stderr) == ("KeyError" in body)
