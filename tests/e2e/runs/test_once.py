"""One request, one bill: however often it is submitted, and after Temporal has forgotten the run too."""

import asyncio

import pytest
from temporalio.common import WorkflowIDConflictPolicy

from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.fingerprints import fingerprint
from gpt_image_runs.contracts.request import ImageRequest
from tests.support.servers.stack import CONTRACT, Stack, new_run_id, run_stack

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_twenty_concurrent_starts_are_one_run(any_stack: Stack) -> None:
    """The same request submitted twenty times at once is one run, one call to the provider and one entry."""
    run_id = new_run_id()

    async def submit() -> object:
        handle = await any_stack.client.start_workflow(
            names.WORKFLOW,
            CONTRACT,
            id=run_id,
            task_queue=names.RUNS_QUEUE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        )
        return await handle.result()

    # Submissions that come after the end of the run start it again; then it finds what was paid.
    results = await asyncio.gather(*(submit() for _ in range(20)))

    assert all(result == results[0] for result in results)
    assert len(any_stack.calls(run_id)) == 1
    assert len(any_stack.entries(run_id)) == 1


async def test_run_forgotten_by_temporal_is_not_paid_again(any_stack: Stack) -> None:
    """A request submitted again to a Temporal that knows nothing of its run gets the same pictures and the same entry."""
    run_id = new_run_id()
    first = await any_stack.run(CONTRACT, run_id=run_id)

    async with run_stack(any_stack.settings.ledger_url(), any_stack.settings.store_url()) as forgetful:
        again = await forgetful.run(CONTRACT, run_id=run_id)
        paid_again = forgetful.calls(run_id)

    assert again == first
    assert len(any_stack.calls(run_id)) == 1
    assert paid_again == []
    assert len(any_stack.entries(run_id)) == 1


async def test_billed_run_keeps_its_cost_under_other_settings(any_stack: Stack) -> None:
    """A run that was billed and is submitted again under other settings answers with what is on its entry, not with today's cost."""
    run_id = new_run_id()
    payload = {**CONTRACT, "prompt": "A cup [simulate:missing_usage]"}
    first = await any_stack.run(payload, run_id=run_id)
    assert first.billing.state == "estimated"

    async with run_stack(
        any_stack.settings.ledger_url(), any_stack.settings.store_url(), missing_usage="hold"
    ) as stricter:
        again = await stricter.run(payload, run_id=run_id)

    assert again == first


async def test_request_id_of_other_content_is_a_conflict(stack: Stack) -> None:
    """A request id that was used for other content is a conflict that names the difference, and nothing is sent."""
    run_id = new_run_id()
    await stack.run(CONTRACT, run_id=run_id)

    other = {**CONTRACT, "prompt": "Something else", "user": "ada"}
    failure = await stack.fail(other, run_id=run_id)

    assert failure.type == "RunConflict"
    assert "submitted before with other content (other in prompt, user)" in failure.message
    assert len(stack.calls(run_id)) == 1
    (entry,) = stack.entries(run_id)
    assert entry.fingerprint == fingerprint(ImageRequest.model_validate(CONTRACT))  # without marks


async def test_second_workflow_of_one_request_id_is_refused(stack: Stack) -> None:
    """Two workflows that both claim one request id cannot both pay: the second is refused and pointed to the first."""
    run_id = new_run_id()
    request_id = run_id.rpartition(":")[2]
    await stack.run(CONTRACT, run_id=run_id)

    failure = await stack.fail({**CONTRACT, "request_id": request_id}, run_id=f"of-another-team-{request_id}")

    assert failure.type == "RunConflict"
    assert run_id in failure.message
    assert len(stack.calls(run_id)) == 1


async def test_custom_workflow_id_runs_its_request_id(stack: Stack) -> None:
    """A workflow started under any id with a request_id in its request is the run of that request id."""
    result = await stack.run({**CONTRACT, "request_id": "own-4711"}, run_id="of-another-team-4711")

    assert result.run_id == "image:default:own-4711"
    assert len(stack.entries("image:default:own-4711")) == 1
