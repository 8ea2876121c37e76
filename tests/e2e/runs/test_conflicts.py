"""The same request id from clients that have no code of ours: what each way of starting gets, as docs/how-to/integrate.md says."""

import asyncio
from typing import Any

import pytest
from temporalio.client import WorkflowFailureError
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError

from gpt_image_runs.contracts import names
from tests.support.servers.stack import CONTRACT, Stack, new_run_id

pytestmark = pytest.mark.asyncio(loop_scope="session")

OTHER = {**CONTRACT, "prompt": "Something else", "quality": "low"}
ATTACH, FAIL = WorkflowIDConflictPolicy.USE_EXISTING, WorkflowIDConflictPolicy.FAIL
AGAIN, ONLY_FAILED = WorkflowIDReusePolicy.ALLOW_DUPLICATE, WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY


async def execute(
    stack: Stack,
    payload: Any,
    run_id: str,
    conflict: WorkflowIDConflictPolicy,
    reuse: WorkflowIDReusePolicy = AGAIN,
) -> Any:
    return await stack.client.execute_workflow(
        names.WORKFLOW,
        payload,
        id=run_id,
        task_queue=names.RUNS_QUEUE,
        id_conflict_policy=conflict,
        id_reuse_policy=reuse,
    )


async def conflict_of(stack: Stack, run_id: str, conflict: WorkflowIDConflictPolicy) -> str:
    with pytest.raises(WorkflowFailureError) as raised:
        await execute(stack, OTHER, run_id, conflict)
    cause = raised.value.cause
    assert isinstance(cause, ApplicationError)
    assert cause.type == "RunConflict"
    return cause.message


async def start_slowly(stack: Stack, name: str) -> tuple[str, dict[str, Any], Any]:
    """Start a run that takes two seconds."""
    payload = {**CONTRACT, "prompt": name}
    stack.simulator.script("delay=2", match=name)
    run_id = new_run_id()
    return run_id, payload, await stack.start(payload, run_id=run_id)


@pytest.mark.parametrize("conflict", [ATTACH, FAIL])
async def test_ended_run_started_again_gets_its_result_or_a_conflict(
    stack: Stack, conflict: WorkflowIDConflictPolicy
) -> None:
    """A run that is over and is started again looks: same content, same result; other content, a conflict by its fields."""
    run_id = new_run_id()
    first = await execute(stack, CONTRACT, run_id, conflict)

    assert await execute(stack, CONTRACT, run_id, conflict) == first
    assert "other content (other in prompt, quality)" in await conflict_of(stack, run_id, conflict)
    assert await execute(stack, CONTRACT, run_id, conflict) == first
    assert len(stack.calls(run_id)) == 1
    assert len(stack.entries(run_id)) == 1


async def test_allow_duplicate_failed_only_rejects_a_completed_run(stack: Stack) -> None:
    """With AllowDuplicateFailedOnly a run that is done cannot be started: the caller gets an error, whatever the content."""
    run_id = new_run_id()
    await stack.run(CONTRACT, run_id=run_id)

    for payload in (CONTRACT, OTHER):
        with pytest.raises(WorkflowAlreadyStartedError):
            await execute(stack, payload, run_id, ATTACH, ONLY_FAILED)


async def test_use_existing_attaches_to_a_running_run_of_any_content(stack: Stack) -> None:
    """UseExisting attaches to the run that is under way, be it of other content: its answer is that of the first."""
    run_id, payload, handle = await start_slowly(stack, "A cup that is attached to")

    same, other = await asyncio.gather(
        execute(stack, payload, run_id, ATTACH), execute(stack, OTHER, run_id, ATTACH)
    )

    assert same == other == await handle.result()
    assert len(stack.calls(run_id)) == 1


async def test_conflict_policy_fail_reports_a_running_run(stack: Stack) -> None:
    """Fail tells that something is under way; started again after its end, other content is a conflict."""
    run_id, payload, handle = await start_slowly(stack, "A cup that is waited for")

    with pytest.raises(WorkflowAlreadyStartedError):
        await execute(stack, OTHER, run_id, FAIL)
    first = await handle.result()

    assert "other in prompt, quality" in await conflict_of(stack, run_id, FAIL)
    assert await execute(stack, payload, run_id, FAIL) == first
    assert len(stack.calls(run_id)) == 1
