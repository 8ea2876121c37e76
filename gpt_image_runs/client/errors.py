"""The client's errors. Each message says what is wrong and what to do."""

import asyncio
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

from temporalio.client import Client as TemporalClient
from temporalio.client import RPCTimeoutOrCancelledError, WorkflowQueryFailedError
from temporalio.exceptions import ApplicationError, CancelledError
from temporalio.service import RPCError, RPCStatusCode

from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.problems import Problem
from gpt_image_runs.contracts.submissions import Difference

T = TypeVar("T")

_DENIED = (RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.UNAUTHENTICATED)
_LOST = (RPCStatusCode.UNAVAILABLE, RPCStatusCode.CANCELLED, RPCStatusCode.DEADLINE_EXCEEDED)

# A query answers so where nobody polls, an Update where its time is over.
_NO_WORKER = (RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.FAILED_PRECONDITION)


class ClientError(Exception):
    """The base of all errors of the client."""


class TemporalUnavailable(ClientError):
    """Temporal does not answer or does not accept the call. Runs that were started continue."""


class NoAnswer(ClientError):
    """No worker answered in time, or none could say whose content a request id belongs to. The run may have been started.

    Submit the same request again with the same request id: it is one run and one bill.
    """

    def __init__(self, message: str, *, run_id: str | None = None) -> None:
        super().__init__(message)
        self.run_id = run_id


class RunNotFound(ClientError):
    """Temporal does not know the run: it was never started, or ended longer ago than the namespace remembers."""

    def __init__(self, message: str, *, run_id: str) -> None:
        super().__init__(message)
        self.run_id = run_id


class RunRefused(ClientError):
    """The request is refused; `problems` lists why. `run_id` is None if nothing was submitted."""

    def __init__(
        self, message: str, *, run_id: str | None = None, problems: tuple[Problem, ...] = ()
    ) -> None:
        super().__init__(message)
        self.run_id = run_id
        self.problems = problems


class BudgetExceeded(RunRefused):
    """The run's next request could cost more than the tenant's budget allows. That request was not sent."""


class RunConflict(ClientError):
    """The request id is already used for other content; `differences` lists the known differences."""

    def __init__(
        self,
        message: str,
        *,
        run_id: str,
        differences: tuple[Difference, ...] = (),
        problems: tuple[Problem, ...] = (),
    ) -> None:
        super().__init__(message)
        self.run_id = run_id
        self.differences = differences
        self.problems = problems


class RunFailed(ClientError):
    """The run ended without a result. `failure_type` names the failure, `details` has its data."""

    def __init__(
        self, message: str, *, run_id: str, failure_type: str, details: tuple[Any, ...] = ()
    ) -> None:
        super().__init__(message)
        self.run_id = run_id
        self.failure_type = failure_type
        self.details = details


class RunCancelled(RunFailed):
    """The run was cancelled before its request was sent. A request that was already sent is completed and billed."""


class RunEnded(ClientError):
    """The run has ended, so there is nothing to decide."""

    def __init__(self, message: str, *, run_id: str) -> None:
        super().__init__(message)
        self.run_id = run_id


class DecisionRefused(ClientError):
    """The decision is not well-formed, or the run does not wait for one."""

    def __init__(self, message: str, *, run_id: str) -> None:
        super().__init__(message)
        self.run_id = run_id


class BatchConflict(ClientError):
    """The batch id is already used for other lines, or for a batch at the other price. Nothing was started."""

    def __init__(self, message: str, *, batch_id: str) -> None:
        super().__init__(message)
        self.batch_id = batch_id


class BatchNotFound(ClientError):
    """Temporal does not know the batch."""

    def __init__(self, message: str, *, batch_id: str) -> None:
        super().__init__(message)
        self.batch_id = batch_id


class BatchFailed(ClientError):
    """The batch ended early, with the failure `failure_type`. Runs that were started continue."""

    def __init__(self, message: str, *, batch_id: str, failure_type: str) -> None:
        super().__init__(message)
        self.batch_id = batch_id
        self.failure_type = failure_type


class ImageUnavailable(ClientError):
    """An image cannot be read here, or its bytes are not those of the result."""

    def __init__(self, message: str, *, uri: str) -> None:
        super().__init__(message)
        self.uri = uri


def read_failure(run_id: str, cause: BaseException) -> RunRefused | RunConflict | RunFailed:
    """Convert the cause of a `WorkflowFailureError` to the client's error."""
    if not isinstance(cause, ApplicationError):
        kind = type(cause).__name__.removesuffix("Error")
        error_class = RunCancelled if isinstance(cause, CancelledError) else RunFailed
        return error_class(
            f"The run {run_id} ended without a result: {cause}.", run_id=run_id, failure_type=kind
        )
    kind = cause.type or "ApplicationError"
    if kind == names.RUN_CONFLICT:
        return RunConflict(cause.message, run_id=run_id, problems=_read_problems(cause))
    if kind in {names.REQUEST_REFUSED, names.BUDGET_EXCEEDED}:
        refused = BudgetExceeded if kind == names.BUDGET_EXCEEDED else RunRefused
        return refused(cause.message, run_id=run_id, problems=_read_problems(cause))
    return RunFailed(
        f"The run failed: {kind}: {cause.message}",
        run_id=run_id,
        failure_type=kind,
        details=tuple(cause.details),
    )


def _read_problems(cause: ApplicationError) -> tuple[Problem, ...]:
    return tuple(Problem.model_validate(detail) for detail in cause.details if isinstance(detail, dict))


async def wait_at_most(max_wait: timedelta | None, answer: Awaitable[T]) -> T:
    """Wait for an answer of Temporal; without a limit if `max_wait` is None.

    Raises:
        TimeoutError: it took longer.
    """
    async with asyncio.timeout(None if max_wait is None else max_wait.total_seconds()):
        try:
            return await answer
        except RPCTimeoutOrCancelledError as error:
            # The SDK turns the cancellation of an Update into an error of its own: a timeout, or Ctrl-C, would be lost.
            if isinstance(error.__cause__, asyncio.CancelledError):
                raise asyncio.CancelledError from None
            raise


@contextmanager
def temporal_errors(
    temporal: TemporalClient, *, not_found: ClientError | None = None, no_answer: ClientError | None = None
) -> Iterator[None]:
    """Convert Temporal's errors to the client's.

    `not_found` is raised if Temporal does not know the workflow, `no_answer` if a worker does not answer in time.

    Raises:
        TemporalUnavailable: for every other error.
    """
    server = f"{temporal.service_client.config.target_host} ({temporal.namespace})"
    try:
        yield
    except (TimeoutError, RPCTimeoutOrCancelledError) as error:
        raise no_answer or TemporalUnavailable(_describe_lost(server, "no answer in time")) from error
    except RPCError as error:
        is_unknown = error.status is RPCStatusCode.NOT_FOUND and not error.message.startswith("Namespace")
        if not_found and is_unknown:
            raise not_found from error
        if no_answer and error.status in _NO_WORKER:
            raise no_answer from error
        raise TemporalUnavailable(_describe_rpc_error(server, error)) from error
    except WorkflowQueryFailedError as error:
        raise TemporalUnavailable(
            f"The Temporal server at {server} could not ask the workflow: {error}."
        ) from error


def _describe_rpc_error(server: str, error: RPCError) -> str:
    reason = error.message.rstrip(".")
    if error.status in _DENIED:
        return (
            f"The Temporal server at {server} denied access: {reason}. Check TEMPORAL_API_KEY, TEMPORAL_TLS_* and"
            " TEMPORAL_NAMESPACE."
        )
    if error.status in _LOST:
        return _describe_lost(server, reason)
    if error.status is RPCStatusCode.RESOURCE_EXHAUSTED:
        return (
            f"The Temporal server at {server} takes no more calls just now ({reason}). Repeat the call later, a request with the same"
            " request id."
        )
    return f"The Temporal server at {server} answered {error.status.name}: {reason}. Check its address and TEMPORAL_NAMESPACE."


def _describe_lost(server: str, reason: str) -> str:
    return (
        f"The Temporal server at {server} does not answer any more ({reason}). What was started goes on when it is back: repeat"
        " the call then, a request with the same request id."
    )
