"""What was paid is shown, whatever came after it under the same request id, and a deleted picture is named as such."""

from pathlib import Path

import pytest
from temporalio.client import WorkflowFailureError

from gpt_image_runs.contracts.result import RunResult
from tests.support.runs.commands import type_command
from tests.support.runs.submissions import submit
from tests.support.servers.stack import CONTRACT, Stack, new_run_id

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_result_of_run_names_its_deleted_image(stack: Stack) -> None:
    run_id, request = new_run_id(), {**CONTRACT, "quality": "low", "prompt": "A cup that is deleted"}
    _, first = await submit(stack.client, request, run_id)
    result = RunResult.model_validate(await first.result())
    assert result.warnings == ()
    path = stack.store.local_path(result.images[0].uri)
    assert path is not None
    path.unlink()

    receipt, again = await submit(stack.client, request, run_id)
    repeated = RunResult.model_validate(await again.result())

    assert (receipt.status, receipt.paid_before) == ("attached", True)
    (warning,) = repeated.warnings
    assert result.images[0].uri in warning
    assert "new request_id" in warning
    assert repeated.model_copy(update={"warnings": ()}) == result
    assert len(stack.calls(run_id)) == len(stack.entries(run_id)) == 1


async def test_show_keeps_the_bill_of_a_run_after_a_conflict(stack: Stack, tmp_path: Path) -> None:
    """One wrong submission does not hide the bill; a deleted picture is named by `show` too."""
    run_id, request = new_run_id(), {**CONTRACT, "quality": "low", "prompt": "A cup that is billed"}
    _, first = await submit(stack.client, request, run_id)
    result = RunResult.model_validate(await first.result())
    _, other = await submit(stack.client, {**request, "prompt": "A plate"}, run_id)
    with pytest.raises(WorkflowFailureError):
        await other.result()

    commands = (("show", run_id), ("wait", run_id), ("images", run_id, "--out", str(tmp_path / "out")))
    for command in commands:
        ended = await type_command(stack, tmp_path, *command, "--json")
        assert ended.status == 0, ended.err
        assert "stands for" in ended.err or "submitted before with other content" in ended.err
        assert ended.document["run_id"] == run_id
    shown = await type_command(stack, tmp_path, "show", run_id, "--json")
    assert shown.document["billing"]["entry_id"] == result.billing.entry_id

    path = stack.store.local_path(result.images[0].uri)
    assert path is not None
    path.unlink()
    shown = await type_command(stack, tmp_path, "show", run_id, "--json")
    assert shown.status == 0
    assert "new request_id" in shown.err
    assert result.images[0].uri in shown.document["warnings"][0]
