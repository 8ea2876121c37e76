"""Starting, awaiting and scheduling comparisons with the provider's books. What one looks like is not known here."""

import asyncio
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleCalendarSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleRange,
    ScheduleSpec,
    ScheduleUpdate,
    WorkflowFailureError,
    WorkflowHandle,
)
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import ApplicationError

from cli.failures import INTERRUPTED, CommandFailed
from cli.output import Output
from contracts import names
from contracts.comparison import ComparisonOrder, ComparisonSummary
from runtime.temporal import has_pollers

SCHEDULE_ID = "provider-reconciliation"
_NOON = 12
_LOOK_SECONDS = 2.0

ComparisonHandle = WorkflowHandle[Any, ComparisonSummary]


@dataclass(frozen=True, slots=True)
class Scheduled:
    """The schedule as it is now."""

    schedule_id: str
    existed: bool
    next_at: datetime | None


async def start_comparison(client: Client, day: date, order: ComparisonOrder) -> ComparisonHandle:
    """Starts the comparison of a day, or attaches to the one that is under way. `order` says what else is asked."""
    return await client.start_workflow(
        names.PROVIDER_RECONCILIATION,
        order.model_copy(update={"day": day}),
        id=names.provider_reconciliation_id(day),
        task_queue=names.RUNS_QUEUE,
        result_type=ComparisonSummary,
        # The provider may count late: a day may be compared again, and each comparison is kept.
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
        static_summary=f"{day} beside the provider's books",
    )


async def await_comparison(client: Client, handle: ComparisonHandle, output: Output) -> ComparisonSummary:
    """Waits for a comparison, and tells why where it takes long.

    Raises:
        CommandFailed: it failed, or the waiting was interrupted; then it goes on.
    """
    result = asyncio.ensure_future(handle.result())
    told: set[str] = set()
    try:
        while not (await asyncio.wait({result}, timeout=_LOOK_SECONDS))[0]:
            for sentence in await _find_obstacles(client, handle):
                if sentence not in told:
                    told.add(sentence)
                    output.warn(sentence)
        return await result
    except WorkflowFailureError as error:
        cause = error.cause
        message = cause.message if isinstance(cause, ApplicationError) else str(cause)
        raise CommandFailed(message, workflow_id=handle.id) from error
    except asyncio.CancelledError:
        raise CommandFailed(
            "The comparison goes on. The same command attaches to it again.", exit_status=INTERRUPTED
        ) from None
    finally:
        result.cancel()


async def schedule_comparisons(client: Client, order: ComparisonOrder) -> Scheduled:
    """Has each day compared at noon (UTC) of the next, when the provider has counted it. Days that were missed are made up."""
    schedule = Schedule(
        action=ScheduleActionStartWorkflow(
            names.PROVIDER_RECONCILIATION,
            order,
            id=SCHEDULE_ID,
            task_queue=names.RUNS_QUEUE,
            static_summary="the day before beside the provider's books",
        ),
        spec=ScheduleSpec(calendars=[ScheduleCalendarSpec(hour=[ScheduleRange(_NOON)])]),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.BUFFER_ALL),
    )
    existed = False
    try:
        handle = await client.create_schedule(SCHEDULE_ID, schedule)
    except ScheduleAlreadyRunningError:
        existed = True
        handle = client.get_schedule_handle(SCHEDULE_ID)
        await handle.update(lambda _: ScheduleUpdate(schedule=schedule))
    described = await handle.describe()
    return Scheduled(SCHEDULE_ID, existed, next(iter(described.info.next_action_times), None))


async def _find_obstacles(client: Client, handle: ComparisonHandle) -> list[str]:
    if not await has_pollers(client, (names.RUNS_QUEUE,)):
        return ["No worker polls yet. Start it with `make up` or `python worker.py`."]
    pending = (await handle.describe()).raw_description.pending_activities
    return [
        f"{activity.last_failure.message} It is tried again."
        for activity in pending
        if activity.HasField("last_failure")
    ]
