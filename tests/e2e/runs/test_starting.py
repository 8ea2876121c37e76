"""How the command line starts a run: with a receipt where a worker answers, and without one where none does."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowFailureError, WorkflowHandle

from cli.errors import CommandFailed, RequestRefused
from cli.runs.start import CheckedRequest, check_result_is_own, start_run
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.request import ImageRequest
from gpt_image_runs.contracts.result import RunResult
from tests.support.runs.run_states import decide, until_held
from tests.support.runs.submissions import (
    RECEIPT_PATIENCE,
    make_checked_request,
    rename,
    submit,
    until_looked_up,
)
from tests.support.servers.stack import Stack, run_stack, run_temporal, sqlite_url

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_started_run_gets_a_receipt_and_attaches_or_conflicts(stack: Stack) -> None:
    """Who starts a run is told its worst case; who asks again while it is under way attaches, and other content is refused."""
    checked = make_checked_request("A cup that is started", unknown_outcome="hold")
    stack.simulator.script("reset_after_payment", match=checked.request.prompt)
    started = await start_run(stack.client, checked, patience=RECEIPT_PATIENCE)
    assert (started.run_id, started.attached) == (checked.run_id, False)
    assert started.receipt is not None
    # 196 tokens of a picture at 30 micro-USD, and at most 121 of input at 8: the prompt's 21 bytes and 100 around it
    assert started.receipt.price_ceiling_usd == "0.006848"
    await until_held(started.handle)

    assert (await start_run(stack.client, checked, patience=RECEIPT_PATIENCE)).attached
    other = make_checked_request("A plate", request_id=checked.request.request_id)
    with pytest.raises(RequestRefused, match="stands for other content already") as conflict:
        await start_run(stack.client, other, patience=RECEIPT_PATIENCE)
    assert conflict.value.document()["differences"] == ["prompt", "unknown_outcome"]

    await decide(started.handle)
    first = await started.handle.result()
    done = await start_run(stack.client, checked, patience=RECEIPT_PATIENCE)
    assert (done.attached, done.receipt) == (True, None)
    assert await done.handle.result() == first
    assert len(stack.entries(checked.run_id)) == 1


async def test_refusal_by_the_worker_is_reported_without_waiting(stack: Stack) -> None:
    """Where the worker has other rules than this machine, its problems are the command's, without waiting for the run."""
    sound = make_checked_request("A cup that is refused by the worker")
    wrong = replace(sound, payload={**sound.payload, "n": 11, "size": "100x100"})

    with pytest.raises(RequestRefused) as refused:
        await start_run(stack.client, wrong, patience=RECEIPT_PATIENCE)

    assert [problem.field for problem in refused.value.problems] == ["n", "size"]
    assert refused.value.document()["run_id"] == sound.run_id


async def test_start_without_a_worker_has_no_receipt() -> None:
    """Where no worker polls, the run is started at once and without a receipt; the same submission attaches to it."""
    async with run_temporal() as client:
        checked = make_checked_request("A cup without a worker")
        started = await start_run(client, checked, patience=RECEIPT_PATIENCE)
        again = await start_run(client, checked, patience=RECEIPT_PATIENCE)

        assert (started.receipt, started.attached, again.attached) == (None, False, True)
        assert (await started.handle.describe()).status == WorkflowExecutionStatus.RUNNING


async def test_start_without_a_ledger_has_no_receipt(tmp_path: Path) -> None:
    """Where the worker cannot answer in time, the run is this call's all the same; Ctrl-C meanwhile is no patience at its end."""
    async with run_stack(sqlite_url(tmp_path), (tmp_path / "images").as_uri()) as stack:
        rename(stack, "runs", "runs_away")
        started = await start_run(
            stack.client, make_checked_request("A cup without a ledger"), patience=timedelta(seconds=1)
        )
        assert (started.receipt, started.attached) == (None, False)

        checked = make_checked_request("A cup that nobody waits for")
        starting = asyncio.create_task(start_run(stack.client, checked, patience=RECEIPT_PATIENCE))
        await until_looked_up(stack, checked.run_id)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting

        rename(stack, "runs_away", "runs")
        await started.handle.result()
        await stack.client.get_workflow_handle(checked.run_id).result()
        assert len(stack.simulator.books.entries) == 2


async def start_other(client: Client, checked: CheckedRequest) -> WorkflowHandle[Any, Any]:
    """Start other content under the request's id without a submission, as a program that awaits its own result."""
    payload = {**checked.payload, "prompt": "A plate of somebody else"}
    return await client.start_workflow(
        names.WORKFLOW, payload, id=checked.run_id, task_queue=names.RUNS_QUEUE
    )


async def test_owner_gets_its_result_beside_an_execution_of_other_content(tmp_path: Path) -> None:
    """The owner of a paid request is not told `conflict` because other content was started under its id, and gets its result."""
    url, images = sqlite_url(tmp_path), (tmp_path / "images").as_uri()
    async with run_stack(url, images, provider_concurrency=1) as stack:
        checked = make_checked_request("A cup that is paid")
        receipt, first = await submit(stack.client, checked.payload, checked.run_id)
        result = await first.result()
        # The only place at the provider is taken, so that the other execution stays open.
        slow = await stack.start(
            {**checked.payload, "prompt": "Slow [simulate:delay=6]", "request_id": "slow"}
        )
        while not stack.simulator.in_progress:
            await asyncio.sleep(0.02)
        other = await start_other(stack.client, checked)

        again = await start_run(stack.client, checked, patience=RECEIPT_PATIENCE)

        assert receipt.status == "accepted"
        assert again.attached
        assert (await again.handle.result()).billing == RunResult.model_validate(result).billing
        assert len(stack.calls(checked.run_id)) == 1
        with pytest.raises(WorkflowFailureError):
            await other.result()
        await slow.result()


async def test_late_receipt_beside_other_content_is_asked_for_again(tmp_path: Path) -> None:
    """Where the receipt takes too long, the content of the execution does not make a conflict: the worker is asked again."""
    async with run_stack(sqlite_url(tmp_path), (tmp_path / "images").as_uri()) as stack:
        checked = make_checked_request("A cup that was paid before")
        _, first = await submit(stack.client, checked.payload, checked.run_id)
        result = RunResult.model_validate(await first.result())
        rename(stack, "runs", "runs_away")
        await start_other(stack.client, checked)

        starting = asyncio.create_task(start_run(stack.client, checked, patience=timedelta(seconds=1)))
        await asyncio.wait({starting}, timeout=3)
        assert not starting.done()
        rename(stack, "runs_away", "runs")

        assert (await (await starting).handle.result()).billing == result.billing
        assert len(stack.calls(checked.run_id)) == 1


async def test_run_without_receipt_does_not_take_the_owners_result(tmp_path: Path) -> None:
    """Whoever awaits a run without a receipt does not take the result of the owner's content, with which it went on."""
    async with run_stack(sqlite_url(tmp_path), (tmp_path / "images").as_uri()) as stack:
        checked = make_checked_request("A cup that owns its id")
        _, first = await submit(stack.client, checked.payload, checked.run_id)
        result = await first.result()
        await check_result_is_own(stack.client, await start_run(stack.client, checked), checked)
        rename(stack, "runs", "runs_away")
        other = replace(checked, payload={**checked.payload, "prompt": "A plate"})
        request = ImageRequest(**other.payload)
        other = replace(other, request=request)
        # A completed run is in the way of a start by the command line; one that failed is not.
        failed = await start_other(stack.client, checked)
        await failed.terminate()
        started = await start_run(stack.client, other, patience=timedelta(seconds=1))
        owner = asyncio.create_task(submit(stack.client, checked.payload, checked.run_id))
        rename(stack, "runs_away", "runs")

        receipt, _ = await owner
        assert (started.receipt, started.attached, receipt.status) == (None, False, "attached")
        assert (await started.handle.result()).billing.entry_id == result["billing"]["entry_id"]
        with pytest.raises(RequestRefused, match="stands for other content already"):
            await check_result_is_own(stack.client, started, other)
        # Once more, its first argument being the other content does not make it the other content's.
        with pytest.raises(RequestRefused, match="stands for other content already"):
            await start_run(stack.client, other, patience=RECEIPT_PATIENCE)
        assert (await start_run(stack.client, checked, patience=RECEIPT_PATIENCE)).ended


async def test_start_without_a_worker_beside_other_content_is_undecided() -> None:
    """Beside an execution of other content the request is neither refused nor started, and its id is to be kept."""
    async with run_temporal() as client:
        checked = make_checked_request("A cup beside a plate")
        await start_other(client, checked)

        with pytest.raises(CommandFailed, match="with the same request id") as doubt:
            await start_run(client, checked, patience=RECEIPT_PATIENCE)

        assert not isinstance(doubt.value, RequestRefused)
        assert doubt.value.document()["differences"] == ["prompt"]


async def test_completed_run_of_another_request_id_is_not_a_conflict(stack: Stack) -> None:
    """A workflow whose request names another request id is no sign that this one is taken."""
    checked = make_checked_request("A cup under its own id")
    payload = {**checked.payload, "request_id": f"{checked.request.request_id}-other"}
    await stack.run(payload, run_id=checked.run_id)

    started = await start_run(stack.client, checked, patience=RECEIPT_PATIENCE)

    assert (await started.handle.result()).run_id == checked.run_id
    assert len(stack.entries(checked.run_id)) == 1
