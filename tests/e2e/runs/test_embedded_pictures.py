"""Pictures in the request itself: one limit for every way in, and a receipt that says what becomes of the run."""

import base64
import json
import uuid
from typing import Any

import pytest
from temporalio.client import WithStartWorkflowOperation, WorkflowFailureError
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.exceptions import ApplicationError

from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.images import MAX_DATA_URIS
from gpt_image_runs.contracts.names import SUBMISSION
from gpt_image_runs.contracts.quote import Quote
from tests.support.files.picture_files import make_picture
from tests.support.runs.submissions import submit
from tests.support.servers.stack import Stack, new_run_id

pytestmark = pytest.mark.asyncio(loop_scope="session")

PREFIX = "data:image/png;base64,"


def make_edit(characters: int) -> dict[str, Any]:
    """Make an edit with a data: URI of about this many characters: a small PNG with a large comment."""
    png = make_picture("PNG")
    size = (characters - len(PREFIX)) // 4 * 3
    encoded = base64.b64encode(png + bytes(size - len(png))).decode()
    return {
        "model": "gpt-image-2",
        "prompt": "Put it on a white table",
        "size": "1024x1024",
        "quality": "low",
        "images": [PREFIX + encoded],
    }


@pytest.mark.parametrize("characters", [300_000, 700_000, MAX_DATA_URIS])
async def test_embedded_picture_within_limit_is_accepted_by_every_way(stack: Stack, characters: int) -> None:
    run_id, payload = new_run_id(), make_edit(characters)
    assert len(json.dumps(payload)) > 256 * 1024

    receipt, handle = await submit(stack.client, payload, run_id)
    again, _ = await submit(stack.client, payload, run_id)
    quoted = await stack.client.execute_workflow(
        names.PRICE_QUOTE, payload, id=f"quote:{uuid.uuid4()}", task_queue=names.RUNS_QUEUE
    )

    assert (receipt.status, again.status) == ("accepted", "attached")
    assert Quote.model_validate(quoted).ceiling_usd is not None
    assert (await handle.result())["billing"]["state"] == "billed"
    assert len(stack.calls(run_id)) == len(stack.entries(run_id)) == 1


async def test_embedded_picture_beyond_limit_is_refused_by_name_and_nothing_is_paid(stack: Stack) -> None:
    run_id, payload = new_run_id(), make_edit(MAX_DATA_URIS + 4)

    receipt, handle = await submit(stack.client, payload, run_id)
    with pytest.raises(WorkflowFailureError) as failed:
        await handle.result()

    assert receipt.status == "refused"
    assert "images.0" in receipt.message
    assert "python starter.py upload" in receipt.message
    assert isinstance(failed.value.cause, ApplicationError)
    assert failed.value.cause.type == names.REQUEST_REFUSED
    assert failed.value.cause.message == receipt.message
    assert not stack.calls(run_id)
    assert not stack.entries(run_id)


@pytest.mark.parametrize(
    "submitted", [{"n": 11}, "no request", {**make_edit(300_000), "size": "10x10", "n": 99}]
)
async def test_no_receipt_is_refused_for_a_run_that_goes_on(stack: Stack, submitted: Any) -> None:
    """A client that starts a sound request and submits another with it is told that its run goes on."""
    run_id = new_run_id()
    sound = make_edit(300_000)
    receipt, result = await start_with_other_submission(stack, run_id, sound, submitted)

    assert receipt["status"] == "conflict"
    assert "continues with it" in receipt["message"]
    assert receipt["problems"]
    assert result["billing"]["state"] == "billed"


async def start_with_other_submission(
    stack: Stack, run_id: str, sound: Any, submitted: Any
) -> tuple[Any, Any]:
    update_id = uuid.uuid4().hex
    start: WithStartWorkflowOperation[Any, Any] = WithStartWorkflowOperation(
        names.WORKFLOW,
        sound,
        id=run_id,
        task_queue=names.RUNS_QUEUE,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        memo={SUBMISSION: update_id},
    )
    receipt = await stack.client.execute_update_with_start_workflow(
        names.UPDATE_SUBMIT, submitted, start_workflow_operation=start, id=update_id
    )
    return receipt, await (await start.workflow_handle()).result()
