"""Temporal Schedules for tests: created paused, and asked for nights that have been. No test here."""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from temporalio.client import (
    Schedule,
    ScheduleActionExecutionStartWorkflow,
    ScheduleActionStartWorkflow,
    ScheduleBackfill,
    ScheduleHandle,
    ScheduleOverlapPolicy,
    ScheduleSpec,
    ScheduleState,
    WorkflowHandle,
)

from gpt_image_runs.contracts import names
from tests.support.servers.stack import Stack

MAX_WAIT_SECONDS = 60
NIGHTS = (datetime(2026, 11, 26, 2, tzinfo=UTC), datetime(2026, 11, 27, 2, tzinfo=UTC))


async def create_schedule(
    stack: Stack, workflow_type: str, argument: Any, workflow_id: str
) -> ScheduleHandle:
    """Create a schedule for 2 o'clock that waits to be backfilled."""
    return await stack.client.create_schedule(
        f"schedule-{uuid.uuid4().hex}",
        Schedule(
            action=ScheduleActionStartWorkflow(
                workflow_type, argument, id=workflow_id, task_queue=names.RUNS_QUEUE
            ),
            spec=ScheduleSpec(cron_expressions=["0 2 * * *"]),
            state=ScheduleState(paused=True),
        ),
    )


async def backfill(schedule: ScheduleHandle, *nights: datetime) -> None:
    """Have the schedule start what it would have started in those nights."""
    await schedule.backfill(
        *(
            ScheduleBackfill(
                start_at=night - timedelta(minutes=1),
                end_at=night + timedelta(minutes=1),
                overlap=ScheduleOverlapPolicy.ALLOW_ALL,
            )
            for night in nights
        )
    )


async def started_by(stack: Stack, schedule: ScheduleHandle, count: int) -> list[WorkflowHandle[Any, Any]]:
    """List the workflows that the server started for a schedule, the earliest time first."""
    async with asyncio.timeout(MAX_WAIT_SECONDS):
        while True:
            actions = (await schedule.describe()).info.recent_actions
            if len(actions) >= count:
                break
            await asyncio.sleep(0.05)
    found = [
        (action.action.workflow_id, action.action.first_execution_run_id)
        for action in actions
        if isinstance(action.action, ScheduleActionExecutionStartWorkflow)
    ]
    return [stack.client.get_workflow_handle(name, run_id=run) for name, run in sorted(found)]
