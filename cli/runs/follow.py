"""Wait for a run and report its progress meanwhile."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Protocol, TypeVar

from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import TemporalError
from temporalio.service import RPCError

from cli.errors import CommandFailed, RequestRefused, RunFailed, WaitInterrupted
from cli.output import Output
from gpt_image_runs.client import errors as client_errors
from gpt_image_runs.client.errors import read_failure
from gpt_image_runs.client.runs import RunHandle
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.result import RunResult, RunStatus
from gpt_image_runs.temporal.connection import has_pollers
from gpt_image_runs.temporal.versioning import explain_idleness

_STAGES = {
    "checking": "checking the request",
    "generating": "waiting for the provider",
    "held": "waiting for a decision",
    "pricing": "computing the cost",
    "recording": "recording the bill",
}
_FIRST_POLL_SECONDS = 0.2
_POLL_SECONDS = 0.5
_QUERY_PATIENCE = timedelta(seconds=2)


class ProgressReporter(Protocol):
    """Shows the stage of a run."""

    def __call__(self, stage: str) -> None:
        """Show a stage."""


async def follow_run(
    client: Client,
    handle: RunHandle,
    output: Output,
    *,
    to_the_last: bool = False,
    told: set[str] | None = None,
) -> RunResult:
    """Wait for a run to end, and show its stage, its partial images and the elapsed time meanwhile.

    `to_the_last` queries once more after the end, so that no partial image between two polls is missed. `told` has the warnings
    that were shown before.

    Raises:
        RequestRefused: the run was refused, nothing was sent.
        RunFailed: it ended without a result.
        WaitInterrupted: Ctrl-C; the run continues.
        CommandFailed: the server was lost; the run continues.
    """
    try:
        with _telling(output, handle.id) as tell:
            told = set() if told is None else told
            result = await _wait(client, handle, output, tell, told)
            if to_the_last and (status := await ask_status(handle)):
                _tell_partial_images(status, output, told)
            return result
    except WorkflowFailureError as error:
        raise failed_outcome(handle.id, error.cause) from error
    except asyncio.CancelledError:
        raise WaitInterrupted(handle.id) from None
    except RPCError as error:
        raise CommandFailed(
            f"The connection to Temporal was lost while waiting for the run ({error.message}). The run continues when the server"
            f" is back. Attach to it then: python starter.py wait {handle.id}",
            run_id=handle.id,
        ) from error


def failed_outcome(run_id: str, cause: BaseException) -> CommandFailed:
    """Turn the cause of a run's failure into the failure of a command."""
    failure = read_failure(run_id, cause)
    if isinstance(failure, client_errors.RunFailed):
        return RunFailed(str(failure), run_id=run_id, failure_type=failure.failure_type)
    return RequestRefused(str(failure), failure.problems, run_id=run_id)


async def ask_status(handle: RunHandle) -> RunStatus | None:
    """Query the run's status; None if no worker answers now."""
    try:
        status: RunStatus = await handle.query(
            names.QUERY_STATUS, result_type=RunStatus, rpc_timeout=_QUERY_PATIENCE
        )
    except (RPCError, TemporalError):
        return None
    return status


async def _wait(
    client: Client, handle: RunHandle, output: Output, tell: ProgressReporter, told: set[str]
) -> RunResult:
    result = asyncio.ensure_future(handle.result())
    try:
        # A run that has ended already answers at once, and is asked for no stage.
        await asyncio.wait({result}, timeout=_FIRST_POLL_SECONDS)
        while not result.done():
            status = await ask_status(handle)
            if status is None:
                await warn_without_worker(client, output, told)
            else:
                _tell_status(status, output, tell, told)
                await warn_of_failures(handle, output, told)
            await asyncio.wait({result}, timeout=_POLL_SECONDS)
        return await result
    finally:
        result.cancel()


def _tell_status(status: RunStatus, output: Output, tell: ProgressReporter, told: set[str]) -> None:
    if status.stage in _STAGES:
        tell(_STAGES[status.stage])
    _tell_partial_images(status, output, told)
    for warning in (*status.warnings, *_warn_of_decision(status)):
        if warning not in told:
            told.add(warning)
            output.warn(warning)


def _tell_partial_images(status: RunStatus, output: Output, told: set[str]) -> None:
    for partial in status.partial_images:
        key = f"{partial.attempt_id}/{partial.index}"
        if key not in told:
            told.add(key)
            output.say(f"{status.run_id}  partial picture {partial.index + 1}  {partial.image.uri}")


def _warn_of_decision(status: RunStatus) -> tuple[str, ...]:
    """Build the warning about a held run, which waits until somebody decides."""
    question = status.open_decision
    return (f"{question.message} Decide: {word_decision(status.run_id)}",) if question else ()


def word_decision(run_id: str) -> str:
    """Return the command that decides about a held run."""
    return f"python starter.py decide {run_id} resend|give-up --reason TEXT"


async def warn_of_failures(handle: WorkflowHandle[Any, Any], output: Output, told: set[str]) -> None:
    """Warn of attempts that failed and are retried, perhaps for hours."""
    try:
        described = await handle.describe(rpc_timeout=_QUERY_PATIENCE)
    except RPCError:
        return
    for pending in described.raw_description.pending_activities:
        failure = pending.last_failure.message
        if failure and failure not in told:
            told.add(failure)
            output.warn(f"An attempt failed and is retried: {failure}")


async def warn_without_worker(client: Client, output: Output, told: set[str]) -> None:
    """Warn once that no worker polls, or why its workers are idle. `told` has what was shown before."""
    warning = "No worker is polling; the run waits for one. Start one with `make up` or `python worker.py`."
    if warning in told:
        return
    if await has_pollers(client, (names.RUNS_QUEUE,)):
        idle = await explain_idleness(client, names.RUNS_QUEUE)
        if idle is None:
            return
        told.add(warning)
        warning = idle
    told.add(warning)
    output.warn(warning)


@contextmanager
def _telling(output: Output, run_id: str) -> Iterator[ProgressReporter]:
    """Show progress: on a terminal a transient spinner with the time, otherwise a line for each change of stage."""
    if not output.talk.is_terminal:
        yield _tell_in_lines(output, run_id)
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=output.talk, transient=True) as progress:
        task = progress.add_task(f"starting  {run_id}")

        def tell(stage: str) -> None:
            progress.update(task, description=f"{stage}  {run_id}")

        yield tell


def _tell_in_lines(output: Output, run_id: str) -> ProgressReporter:
    started, last = time.monotonic(), ""

    def tell(stage: str) -> None:
        nonlocal last
        if stage != last:
            output.say(f"{run_id}  {stage} ({time.monotonic() - started:.0f} s)")
            last = stage

    return tell


_PATIENCE_SECONDS = 2.0

T = TypeVar("T")


async def await_result(client: Client, handle: WorkflowHandle[Any, T], output: Output, told: set[str]) -> T:
    """Wait for a workflow's result, with warnings meanwhile. `told` has what was shown before.

    Raises:
        WorkflowFailureError: it ended without one.
        RPCError: the connection to Temporal was lost; the workflow continues.
    """
    result = asyncio.ensure_future(handle.result())
    try:
        while True:
            done, _ = await asyncio.wait({result}, timeout=_PATIENCE_SECONDS)
            if done:
                return await result
            await warn_without_worker(client, output, told)
            await warn_of_failures(handle, output, told)
    finally:
        result.cancel()
