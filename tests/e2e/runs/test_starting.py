"""How the command line starts a run: with a receipt where a worker answers, and without one where none does."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import WorkflowExecutionStatus

from cli.errors import RequestRefused
from cli.runs.start import CheckedRequest, start_run
from gpt_image_runs.contracts.request import ImageRequest
from gpt_image_runs.provider.request_rules import fingerprint
from tests.e2e.runs.test_decisions import decide, until_held
from tests.support.stack import Stack, new_run_id, run_stack, run_temporal, sqlite_url
from tests.support.submissions import rename, until_looked_up

pytestmark = pytest.mark.asyncio(loop_scope="session")

PATIENCE = timedelta(seconds=60)
"""Longer than a receipt takes on any machine."""


def check(prompt: str, **changes: Any) -> CheckedRequest:
    """A request as the command line has checked it."""
    payload = {
        "model": "gpt-image-2",
        "prompt": prompt,
        "size": "1024x1024",
        "quality": "low",
        "request_id": new_run_id().rpartition(":")[2],
        **changes,
    }
    request = ImageRequest(**payload)
    return CheckedRequest(payload, request, request.model, fingerprint(request), ())


async def test_with_a_receipt(stack: Stack) -> None:
    """Who starts a run is told its worst case; who asks again while it is under way attaches, and other content is refused."""
    checked = check("A cup that is started", unknown_outcome="hold")
    stack.simulator.script("reset_after_payment", match=checked.request.prompt)
    started = await start_run(stack.client, checked, patience=PATIENCE)
    assert (started.run_id, started.attached) == (checked.run_id, False)
    assert started.receipt is not None
    # 196 tokens of a picture at 30 micro-USD, and at most 121 of input at 8: the prompt's 21 bytes and 100 around it
    assert started.receipt.price_ceiling_usd == "0.006848"
    await until_held(started.handle)

    assert (await start_run(stack.client, checked, patience=PATIENCE)).attached
    other = check("A plate", request_id=checked.request.request_id)
    with pytest.raises(RequestRefused, match="stands for other content already") as conflict:
        await start_run(stack.client, other, patience=PATIENCE)
    assert conflict.value.document()["differences"] == ["prompt", "unknown_outcome"]

    await decide(started.handle)
    first = await started.handle.result()
    done = await start_run(stack.client, checked, patience=PATIENCE)
    assert (done.attached, done.receipt) == (True, None)
    assert await done.handle.result() == first
    assert len(stack.entries(checked.run_id)) == 1


async def test_what_the_worker_refuses_is_told_at_once(stack: Stack) -> None:
    """Where the worker has other rules than this machine, its problems are the command's, without waiting for the run."""
    sound = check("A cup that is refused by the worker")
    wrong = replace(sound, payload={**sound.payload, "n": 11, "size": "100x100"})

    with pytest.raises(RequestRefused) as refused:
        await start_run(stack.client, wrong, patience=PATIENCE)

    assert [problem.field for problem in refused.value.problems] == ["n", "size"]
    assert refused.value.document()["run_id"] == sound.run_id


async def test_without_a_worker() -> None:
    """Where no worker polls, the run is started at once and without a receipt; the same submission attaches to it."""
    async with run_temporal() as client:
        checked = check("A cup without a worker")
        started = await start_run(client, checked, patience=PATIENCE)
        again = await start_run(client, checked, patience=PATIENCE)

        assert (started.receipt, started.attached, again.attached) == (None, False, True)
        assert (await started.handle.describe()).status == WorkflowExecutionStatus.RUNNING


async def test_without_a_ledger(tmp_path: Path) -> None:
    """Where the worker cannot answer in time, the run is this call's all the same; Ctrl-C meanwhile is no patience at its end."""
    async with run_stack(sqlite_url(tmp_path), (tmp_path / "images").as_uri()) as stack:
        rename(stack, "runs", "runs_away")
        started = await start_run(
            stack.client, check("A cup without a ledger"), patience=timedelta(seconds=1)
        )
        assert (started.receipt, started.attached) == (None, False)

        checked = check("A cup that nobody waits for")
        starting = asyncio.create_task(start_run(stack.client, checked, patience=PATIENCE))
        await until_looked_up(stack, checked.run_id)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting

        rename(stack, "runs_away", "runs")
        await started.handle.result()
        await stack.client.get_workflow_handle(checked.run_id).result()
        assert len(stack.simulator.books.entries) == 2
