"""Runs as an outsider sees them: awaited by their status or page, and decided by names and plain JSON."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from temporalio.api.common.v1 import Payload
from temporalio.client import WorkflowHandle
from temporalio.common import RawValue

from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.decisions import DecisionTaken
from gpt_image_runs.contracts.result import RunStatus
from tests.support.servers.stack import CONTRACT

WORST_WAIT_SECONDS = 120
RESEND = {"decision": "resend", "actor": "ada", "reason": "ticket 7"}
GIVE_UP = {**RESEND, "decision": "give_up"}


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(WORST_WAIT_SECONDS):
        while not await condition():
            await asyncio.sleep(0.05)


async def status_of(handle: WorkflowHandle[Any, Any]) -> RunStatus:
    """Query a run's status."""
    return RunStatus.model_validate(await handle.query(names.QUERY_STATUS))


async def details_of(handle: WorkflowHandle[Any, Any]) -> str:
    """Query what a run shows on its page in the Web UI."""
    return str(await handle.query("__temporal_workflow_metadata"))


async def pending_failure(handle: WorkflowHandle[Any, Any]) -> str:
    """Read the last failure of the activity that a run waits for, as the Web UI shows it."""
    described = await handle.describe()
    return " ".join(
        activity.last_failure.message for activity in described.raw_description.pending_activities
    )


def held(prompt: str) -> dict[str, Any]:
    """Make a request that is held after an unknown outcome. `prompt` must be unique: the simulator's script matches it."""
    return {**CONTRACT, "prompt": prompt, "unknown_outcome": "hold"}


async def until_held(handle: WorkflowHandle[Any, Any], attempts: int = 1) -> RunStatus:
    """Wait until a run is held because of this many attempts."""

    async def is_held() -> bool:
        question = (await status_of(handle)).open_decision
        return question is not None and len(question.attempts) == attempts

    await until(is_held)
    return await status_of(handle)


async def decide(handle: WorkflowHandle[Any, Any], decision: Any = RESEND) -> DecisionTaken:
    """Send a decision as any other language would."""
    return DecisionTaken.model_validate(await handle.execute_update(names.UPDATE_DECIDE, decision))


def raw(data: bytes) -> RawValue:
    """Wrap bytes as a payload that claims to be JSON."""
    return RawValue(Payload(metadata={"encoding": b"json/plain"}, data=data))
