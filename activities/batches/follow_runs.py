"""Finds how the runs of a batch ended: by their bill in the ledger, and only without a bill by asking Temporal.

Temporal's list of runs is eventually consistent and may lack some for longer: a run it names is checked by its id, and so is a
run without news for minutes.
"""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta

from temporalio.client import Client, WorkflowExecutionStatus, WorkflowFailureError
from temporalio.exceptions import ApplicationError, CancelledError, TerminatedError
from temporalio.exceptions import TimeoutError as RunTimedOut
from temporalio.service import RPCError, RPCStatusCode

from activities.errors import shorten
from gpt_image_runs.batches.lines import BatchLines
from gpt_image_runs.batches.models import FollowedLine, UnbilledEnd
from gpt_image_runs.contracts import names

# Between two lists of runs that ended without a bill: short after a list that had some, long while all goes well, as Temporal
# scans all runs of the batch for it.
_MIN_LIST_SECONDS, _MAX_LIST_SECONDS = 1.0, 5.0
_LOOK_EVERY = timedelta(seconds=5)
# Most runs have ended by then; an image can take 280 seconds.
_DOUBTFUL_AFTER = timedelta(minutes=3)
_MAX_CHECKS = 20
_AT_ONCE = 20
_CLOCKS_APART = timedelta(minutes=1)
_WITHOUT_RESULT = '"Failed", "Canceled", "Terminated", "TimedOut"'


class BatchFollower:
    """Follows the runs of one batch."""

    def __init__(self, client: Client, lines: BatchLines, batch_id: str) -> None:
        self._client = client
        self._lines = lines
        self._batch_id = batch_id
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._settled: set[str] = set()
        self._list_at = self._look_at = 0.0
        self._list_seconds = _MIN_LIST_SECONDS

    async def collect(self) -> None:
        """Record the runs that have ended since the last call."""
        await asyncio.to_thread(self._lines.collect_billed)
        now = asyncio.get_running_loop().time()
        if now >= self._list_at:
            found = await self._collect_unbilled()
            self._list_seconds = (
                _MIN_LIST_SECONDS if found else min(2 * self._list_seconds, _MAX_LIST_SECONDS)
            )
            self._list_at = asyncio.get_running_loop().time() + self._list_seconds
        if now >= self._look_at:
            await self._look_at_doubtful()
            self._look_at = asyncio.get_running_loop().time() + _LOOK_EVERY.total_seconds()

    async def cancel_all(self) -> None:
        """Cancel every run under way that the batch has started.

        A run whose request was sent completes and is billed. A run that others have started goes on without the batch.
        """
        running = await asyncio.to_thread(self._lines.list_running)
        theirs = [_left_end(line) for line in running if line.attached]
        await asyncio.to_thread(self._lines.end_unbilled, theirs)
        await asyncio.gather(*(self._cancel(line) for line in running if not line.attached))

    async def _collect_unbilled(self) -> bool:
        """Return whether any run has ended without a bill since the last call."""
        oldest = await asyncio.to_thread(self._lines.find_oldest_start)
        if oldest is None:
            return False
        since = (oldest - _CLOCKS_APART).isoformat().replace("+00:00", "Z")
        query = (
            f'{names.BATCH_ID.name} = "{self._batch_id}" AND ExecutionStatus IN ({_WITHOUT_RESULT})'
            f' AND CloseTime >= "{since}"'
        )
        # A run may have failed executions of earlier rounds: only the one that is followed counts.
        ended = [run async for run in self._client.list_workflows(query) if run.run_id not in self._settled]
        if ended:
            executions = {run.run_id for run in ended}
            running = await asyncio.to_thread(self._lines.list_running, {run.id for run in ended})
            await self._look(line for line in running if line.workflow_run_id in executions)
            self._settled |= executions
        return bool(ended)

    async def _look_at_doubtful(self) -> None:
        for age, attached in ((_DOUBTFUL_AFTER, False), (_LOOK_EVERY, True)):
            await self._look(
                await asyncio.to_thread(self._lines.claim_stale, age, _MAX_CHECKS, attached=attached)
            )

    async def _look(self, lines: Iterable[FollowedLine]) -> None:
        """Describe runs by their ids, and end the lines of those that have ended."""
        ends = [end for end in await asyncio.gather(*map(self._find_end, lines)) if end]
        await asyncio.to_thread(self._lines.end_unbilled, ends)

    async def _find_end(self, line: FollowedLine) -> UnbilledEnd | None:
        """Find how a run ended, None while it is under way. The latest execution counts."""
        async with self._places:
            try:
                described = await self._client.get_workflow_handle(line.run_id).describe()
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND:
                    raise
                return _fail(
                    line, "RunNotFound", "Temporal does not know the run any more, and it has no bill."
                )
            if described.status is WorkflowExecutionStatus.RUNNING:
                return None
            handle = self._client.get_workflow_handle(line.run_id, run_id=described.run_id)
            try:
                await handle.result(follow_runs=False)
            except WorkflowFailureError as error:
                return _failed_end(line, error.cause)
        return _fail(
            line,
            "BillNotFound",
            "The run has completed, and this ledger has no bill of it. Check that all workers use the same DATABASE_URL.",
        )

    async def _cancel(self, line: FollowedLine) -> None:
        async with self._places:
            # It has ended, or was cancelled before. A lost server is noticed by the next list.
            with suppress(RPCError):
                await self._client.get_workflow_handle(line.run_id).cancel()


def _failed_end(line: FollowedLine, cause: BaseException | None) -> UnbilledEnd:
    match cause:
        case ApplicationError():
            return _fail(line, cause.type or "ApplicationError", cause.message)
        case CancelledError():
            return UnbilledEnd(
                line=line.line,
                state="cancelled",
                error_type="Cancelled",
                error_message="The run was cancelled before it had a picture.",
            )
        case TerminatedError():
            return _fail(line, "Terminated", "The run was terminated.")
        case RunTimedOut():
            return _fail(line, "TimedOut", "The run timed out.")
    return _fail(line, type(cause).__name__, str(cause))


def _left_end(line: FollowedLine) -> UnbilledEnd:
    return UnbilledEnd(
        line=line.line,
        state="cancelled",
        error_type="LeftToOthers",
        error_message="The run was started by others and goes on without this batch.",
    )


def _fail(line: FollowedLine, kind: str, message: str) -> UnbilledEnd:
    return UnbilledEnd(line=line.line, state="failed", error_type=kind, error_message=shorten(message))
