"""A run that is started anew while its request is under way: the answer is waited for, and bought once."""

import pytest
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest

from gpt_image_runs.contracts.result import RunResult
from tests.support.runs.run_states import until
from tests.support.servers.stack import CONTRACT, Stack, new_run_id

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def until_under_way(stack: Stack, run_id: str) -> None:
    """Wait until the provider works on a run."""

    async def is_sent() -> bool:
        return stack.simulator.in_progress == 1 and len(stack.attempts(run_id)) == 1

    await until(is_sent)


async def until_all_is_answered(stack: Stack) -> None:
    """Wait for abandoned calls: the provider's books are complete then."""

    async def is_idle() -> bool:
        return stack.simulator.in_progress == 0

    await until(is_idle)


async def test_run_terminated_during_its_call_and_submitted_again_is_paid_once(any_stack: Stack) -> None:
    """A run that is terminated while the provider works and submitted again gets that picture: one call, one entry."""
    any_stack.simulator.script("delay=2", match="An impatient cup")
    payload, run_id = {**CONTRACT, "prompt": "An impatient cup"}, new_run_id()
    first = await any_stack.start(payload, run_id=run_id)

    await until_under_way(any_stack, run_id)
    await first.terminate()
    result = await any_stack.run(payload, run_id=run_id)
    await until_all_is_answered(any_stack)

    assert result.billing.state == "billed"
    assert len(any_stack.calls(run_id)) == 1
    assert len(any_stack.entries(run_id)) == 1


async def test_run_reset_during_its_call_is_paid_once(stack: Stack) -> None:
    """A workflow that an operator resets while the provider works gets that picture: one call, one entry."""
    stack.simulator.script("delay=2", match="A cup set back")
    payload, run_id = {**CONTRACT, "prompt": "A cup set back"}, new_run_id()
    await stack.start(payload, run_id=run_id)

    await until_under_way(stack, run_id)
    await stack.client.workflow_service.reset_workflow_execution(
        ResetWorkflowExecutionRequest(
            namespace=stack.client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=run_id),
            workflow_task_finish_event_id=4,
            request_id=run_id,
        )
    )
    result = RunResult.model_validate(await stack.client.get_workflow_handle(run_id).result())
    await until_all_is_answered(stack)

    assert result.billing.state == "billed"
    assert len(stack.calls(run_id)) == 1
    assert len(stack.entries(run_id)) == 1
