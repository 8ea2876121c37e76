"""What Temporal's executions prove of billed runs.

Anybody who may start workflows in the namespace can complete an `ImageGeneration` of their own, with any search attribute,
argument and result. An execution counts only where its history shows that our workers carried it out.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client, WorkflowExecution
from temporalio.service import RPCError, RPCStatusCode

from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.calls import CallInput, CallResult
from gpt_image_runs.contracts.request import find_run_id
from gpt_image_runs.temporal.worker_identity import parse_identity, shorten_id

# What a restored ledger lacks is among the latest.
_LATEST_RUNS = 100
_LATEST_FOREIGN = 20
# Many times the longest history of a run. A longer one is somebody's attempt to fill the reader's memory.
_MAX_EVENTS = 10_000
_MAX_NAME = 160


class NotProven(Exception):
    """Why an execution is not taken for a run of our workers, as a clause that follows a colon."""


class OtherRun(NotProven):
    """A workflow that was started under an id of its own. `run_id` is that of its request."""

    def __init__(self, run_id: str | None) -> None:
        super().__init__(f"its request belongs to the run {_quote(run_id or 'of no request id')}")
        self.run_id = run_id


class PaidCall(NamedTuple):
    """A call that a history says was paid."""

    order: CallInput
    result: CallResult
    execution: str
    finished_at: datetime


class BilledRuns(NamedTuple):
    """Runs that Temporal has as billed and a ledger does not have as paid.

    `proven` are those whose histories show that our workers carried them out, by id and end. `doubtful` are sentences that name
    the others, the latest first.
    """

    proven: dict[str, datetime]
    doubtful: tuple[str, ...] = ()


async def find_billed_runs(
    client: Client, find_unpaid: Callable[[Sequence[str]], Collection[str]], ledger_id: str | None
) -> BilledRuns:
    """Find the latest runs that ended with a bill and that a ledger does not have.

    `find_unpaid` picks of some run ids those without a paid attempt in the ledger. `ledger_id` None: runs of any ledger count,
    as for one that has no attempts of its own yet.

    Raises:
        RPCError: the server cannot be asked.
    """
    ended = [
        *await _list_billed(client, "=", _LATEST_RUNS),
        *await _list_billed(client, "!=", _LATEST_FOREIGN),
    ]
    unpaid = await asyncio.to_thread(find_unpaid, [execution.id for execution in ended])
    proven: dict[str, datetime] = {}
    doubtful: list[tuple[datetime, str]] = []
    for execution in ended:
        if execution.id not in unpaid or execution.close_time is None:
            continue
        try:
            await _check_paid(client, execution, ledger_id)
            proven[execution.id] = execution.close_time
        except NotProven as error:
            if await must_be_reported(error, find_unpaid):
                doubtful.append((execution.close_time, describe_doubt(execution, error)))
    return BilledRuns(proven, tuple(sentence for _, sentence in sorted(doubtful, reverse=True)))


async def _check_paid(client: Client, execution: WorkflowExecution, ledger_id: str | None) -> None:
    call = await read_paid_call(client, execution, ledger_id)
    if call is None:
        raise NotProven("no call to the provider is in its history")


async def must_be_reported(doubt: NotProven, find_unpaid: Callable[[Sequence[str]], Collection[str]]) -> bool:
    """Check whether to report a doubt. A workflow under its own id whose run the ledger has is not reported."""
    if not isinstance(doubt, OtherRun) or doubt.run_id is None:
        return True
    return bool(await asyncio.to_thread(find_unpaid, [doubt.run_id]))


async def read_paid_call(
    client: Client, execution: WorkflowExecution, ledger_id: str | None
) -> PaidCall | None:
    """Read the paid call of a run from its history, None where there is none. `ledger_id` as for `find_billed_runs`.

    Raises:
        NotProven: it was not carried out by our workers for this ledger, as far as its history shows.
        RPCError: the server cannot be asked.
    """
    if execution.task_queue != names.RUNS_QUEUE:
        raise NotProven(
            f"it runs on the task queue {_quote(execution.task_queue)}, not on {names.RUNS_QUEUE}"
        )
    reader = _HistoryReader(execution.id)
    events = client.get_workflow_handle(execution.id, run_id=execution.run_id).fetch_history_events()
    count = 0
    try:
        async for event in events:
            count += 1
            if count > _MAX_EVENTS:
                raise NotProven(f"its history has more than {_MAX_EVENTS:,} events")
            if reader.read(event):
                return await reader.build_call(client, execution.run_id, event, ledger_id)
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:  # deleted since it was listed
            raise
    return None


def describe_doubt(execution: WorkflowExecution, why: NotProven) -> str:
    """Format why an execution does not count as a sentence that names it."""
    return f"Temporal's execution {execution.run_id} of workflow {_quote(execution.id)} is not taken for a run of ours: {why}."


class _HistoryReader:
    """Goes through a history up to the first call to the provider that was completed."""

    def __init__(self, workflow_id: str) -> None:
        self._workflow_id = workflow_id
        self._orders: dict[int, Any] = {}
        self._started_by: dict[int, str] = {}
        self._identities: set[str] = set()

    def read(self, event: HistoryEvent) -> bool:
        """Take in the next event. Returns whether it completes a call to the provider."""
        match event.WhichOneof("attributes"):
            case "workflow_execution_started_event_attributes":
                started = event.workflow_execution_started_event_attributes
                if started.task_queue.name != names.RUNS_QUEUE:
                    raise NotProven(f"it was started on the task queue {_quote(started.task_queue.name)}")
            case "workflow_task_completed_event_attributes":
                self._identities.add(event.workflow_task_completed_event_attributes.identity)
            case "activity_task_scheduled_event_attributes":
                order = event.activity_task_scheduled_event_attributes
                if order.activity_type.name == names.CALL_GPT_IMAGE:
                    if order.task_queue.name != names.PROVIDER_QUEUE:
                        raise NotProven(
                            f"its call was made on the task queue {_quote(order.task_queue.name)}, not on {names.PROVIDER_QUEUE}"
                        )
                    self._orders[event.event_id] = order.input
            case "activity_task_started_event_attributes":
                taken = event.activity_task_started_event_attributes
                self._started_by[taken.scheduled_event_id] = taken.identity
            case "activity_task_completed_event_attributes":
                return event.activity_task_completed_event_attributes.scheduled_event_id in self._orders
        return False

    async def build_call(
        self, client: Client, execution: str, event: HistoryEvent, ledger_id: str | None
    ) -> PaidCall:
        """Build the call that an event completes, once all that it says of itself fits together."""
        done = event.activity_task_completed_event_attributes
        worker = self._started_by.get(done.scheduled_event_id, "")
        if done.identity != worker:
            raise NotProven(
                f"its call was taken by {_quote(worker)} and completed by {_quote(done.identity)}, from elsewhere"
            )
        _check_ledger({*self._identities, worker}, ledger_id)
        order = await _decode(client, self._orders[done.scheduled_event_id], CallInput)
        result = await _decode(client, done.result, CallResult)
        run_id = find_run_id(order.request, self._workflow_id)
        if not self._workflow_id == run_id == order.run_id:
            raise OtherRun(run_id)
        finished_at = event.event_time.ToDatetime().replace(tzinfo=UTC)
        return PaidCall(order, result, execution, finished_at)


def _check_ledger(identities: set[str], ledger_id: str | None) -> None:
    if ledger_id is None:
        return
    own, named = shorten_id(ledger_id), {parse_identity(identity).ledger for identity in identities}
    if named != {own}:
        others = " and ".join(sorted(name or "none" for name in named - {own}))
        raise NotProven(f"its workers' identities name as their ledger {others}, not {own}")


async def _list_billed(client: Client, comparison: str, limit: int) -> list[WorkflowExecution]:
    """List the latest executions that say that they were billed, on our task queue ("=") or on others ("!=").

    The two are asked for apart, so that no number of the others hides one of ours.
    """
    query = (
        f"WorkflowType = '{names.WORKFLOW}' AND ExecutionStatus = 'Completed'"
        f" AND {names.BILLING_STATE.name} IS NOT NULL AND TaskQueue {comparison} '{names.RUNS_QUEUE}'"
    )
    return [execution async for execution in client.list_workflows(query, limit=limit)]


async def _decode(client: Client, payloads: Any, kind: type[Any]) -> Any:
    try:
        (value,) = await client.data_converter.decode(payloads.payloads, [kind])
    except Exception as error:  # anybody may have written them, in any encoding
        raise NotProven(f"its {kind.__name__} cannot be read ({type(error).__name__})") from error
    return value


def _quote(text: str) -> str:
    """Format what a stranger may have chosen: without control characters, and short."""
    return ascii(text[:_MAX_NAME])
