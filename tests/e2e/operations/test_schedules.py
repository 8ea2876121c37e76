"""Runs and batches that a Temporal Schedule starts: each scheduled time is one request with one bill."""

import asyncio
import os
import re
import sys
import uuid
from pathlib import Path

import pytest
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError

from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.economy import EconomySummary
from gpt_image_runs.contracts.result import RunResult
from gpt_image_runs.local_stack.temporal_server import find_temporal_binary
from tests.support.runs import batch_runs as batches
from tests.support.runs import economy_runs as economy
from tests.support.runs.commands import type_command
from tests.support.runs.schedules import MAX_WAIT_SECONDS, NIGHTS, backfill, create_schedule, started_by
from tests.support.servers.stack import CONTRACT, Stack

pytestmark = pytest.mark.asyncio(loop_scope="session")

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "how-to" / "schedules.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("with_request_id", [False, True], ids=["by workflow id", "by request id"])
async def test_scheduled_run_is_one_request_for_each_time(
    any_stack: Stack, tmp_path: Path, *, with_request_id: bool
) -> None:
    """The id is derived from the time, so the second night is no conflict, and both are found and billed as runs."""
    name = f"nightly-{uuid.uuid4().hex[:12]}"
    payload = {**CONTRACT, "tenant": "acme"} | ({"request_id": name} if with_request_id else {})
    workflow_id = "any id" if with_request_id else f"image:acme:{name}"
    schedule = await create_schedule(any_stack, names.WORKFLOW, payload, workflow_id)
    await backfill(schedule, *NIGHTS)

    handles = await started_by(any_stack, schedule, 2)
    results = [RunResult.model_validate(await handle.result()) for handle in handles]

    assert [handle.id for handle in handles] == [
        f"{workflow_id}-2026-11-26T02:00:00Z",
        f"{workflow_id}-2026-11-27T02:00:00Z",
    ]
    run_ids = [f"image:acme:{name}-20261126T020000Z", f"image:acme:{name}-20261127T020000Z"]
    assert [result.run_id for result in results] == run_ids
    for run_id, result in zip(run_ids, results, strict=True):
        (entry,) = any_stack.entries(run_id)
        assert entry.entry_id == result.billing.entry_id
        assert len(any_stack.calls(run_id)) == 1
        shown = await type_command(any_stack, tmp_path, "show", run_id, "--json")
        assert (shown.status, shown.document["run_id"]) == (0, run_id)


async def test_same_scheduled_time_again_is_not_paid_again(stack: Stack) -> None:
    """A backfill over a night that has been is attached to what was paid then."""
    name = f"nightly-{uuid.uuid4().hex[:12]}"
    schedule = await create_schedule(stack, names.WORKFLOW, CONTRACT, f"image:default:{name}")
    await backfill(schedule, NIGHTS[0])
    (first,) = await started_by(stack, schedule, 1)
    before = RunResult.model_validate(await first.result())
    await backfill(schedule, NIGHTS[0])
    again = (await started_by(stack, schedule, 2))[-1]

    after = RunResult.model_validate(await again.result())

    assert (after.run_id, after.billing.entry_id) == (before.run_id, before.billing.entry_id)
    assert len(stack.calls(before.run_id)) == 1


async def test_scheduled_run_fails_as_its_run_does(stack: Stack) -> None:
    """The failure of the run is that of the workflow that the schedule started; an id without room for the time is refused."""
    refused = CONTRACT | {"prompt": "A fox [simulate:moderation_blocked]"}
    cases = [
        (refused, f"image:default:nightly-{uuid.uuid4().hex}", "ContentRefused", "blocked"),
        (CONTRACT | {"request_id": "r" * 112}, "x", names.REQUEST_REFUSED, "up to 111 characters"),
        (CONTRACT | {"n": 11}, "y", names.REQUEST_REFUSED, "n is 11"),
        (CONTRACT, "no id at all", names.REQUEST_REFUSED, "request_id is absent"),
    ]
    for payload, workflow_id, kind, words in cases:
        schedule = await create_schedule(stack, names.WORKFLOW, payload, workflow_id)
        await backfill(schedule, NIGHTS[0])
        (handle,) = await started_by(stack, schedule, 1)
        with pytest.raises(WorkflowFailureError) as raised:
            await handle.result()
        cause = raised.value.cause
        assert isinstance(cause, ApplicationError)
        assert cause.type == kind
        assert words in cause.message


async def test_cancelled_schedule_run_is_billed_for_what_was_sent(stack: Stack) -> None:
    """A cancellation reaches the run, which finishes what it has paid for."""
    name = f"nightly-{uuid.uuid4().hex[:12]}"
    payload = CONTRACT | {"prompt": "A fox [simulate:delay=3]"}
    schedule = await create_schedule(stack, names.WORKFLOW, payload, f"image:default:{name}")
    await backfill(schedule, NIGHTS[0])
    (handle,) = await started_by(stack, schedule, 1)
    run_id = f"image:default:{name}-20261126T020000Z"
    async with asyncio.timeout(MAX_WAIT_SECONDS):
        while not stack.attempts(run_id):
            await asyncio.sleep(0.05)

    await handle.cancel()

    assert RunResult.model_validate(await handle.result()).billing.state == "billed"
    assert len(stack.entries(run_id)) == 1


async def test_scheduled_batch_has_an_id_and_request_ids_for_each_time(
    any_stack: Stack, tmp_path: Path
) -> None:
    """Both nights of a batch run all of its lines, and its commands take the id of a night."""
    name = f"nightly-{uuid.uuid4().hex[:8]}"
    file = batches.write_lines(tmp_path, ["a cup", "a lamp"], name)
    prepared = await type_command(any_stack, tmp_path, "batch", "run", str(file), "--prepare", "--json")
    assert batches.find(any_stack, name) is None
    schedule = await create_schedule(any_stack, names.BATCH, prepared.document, f"batch:{name}")
    await backfill(schedule, *NIGHTS)

    handles = await started_by(any_stack, schedule, 2)
    results = [await handle.result() for handle in handles]

    assert [result["batch_id"] for result in results] == [
        f"{name}-20261126T020000Z",
        f"{name}-20261127T020000Z",
    ]
    for result in results:
        night = result["batch_id"].removeprefix(f"{name}-")
        lines = batches.results_of(any_stack, result["batch_id"])
        assert [line.run_id for line in lines] == [
            f"image:default:{name}-000001-{night}",
            f"image:default:{name}-000002-{night}",
        ]
        assert {line.state for line in lines} == {"done"}
        status = await type_command(any_stack, tmp_path, "batch", "status", result["batch_id"], "--json")
        assert (status.status, status.document["state"]) == (0, "done")
    paid = [
        call for call in any_stack.simulator.books.entries if f":{name}-" in (call.client_request_id or "")
    ]
    assert len(paid) == 4


async def test_scheduled_economy_batch_has_an_id_for_each_time(stack: Stack) -> None:
    """The same at half price."""
    name = f"nightly-{uuid.uuid4().hex[:8]}"
    already = len(stack.simulator.batches.all)
    order = await economy.write_pages(stack.store, name, economy.make_requests(name, ["a cup"]))
    schedule = await create_schedule(
        stack, names.ECONOMY_BATCH, order.model_dump(mode="json"), order.workflow_id
    )
    await backfill(schedule, *NIGHTS)

    handles = await started_by(stack, schedule, 2)
    await economy.until_sent(stack.simulator, already + 2)
    children = [
        stack.client.get_workflow_handle(f"economy-batch:{name}-{night}")
        for night in ("20261126T020000Z", "20261127T020000Z")
    ]
    summaries = [await economy.finish(stack.simulator, child) for child in children]
    told = [EconomySummary.model_validate(await handle.result()) for handle in handles]

    assert told == summaries
    assert [(summary.batch_id, summary.done) for summary in summaries] == [
        (f"{name}-20261126T020000Z", 1),
        (f"{name}-20261127T020000Z", 1),
    ]


async def test_page_is_carried_out_as_it_stands(any_stack: Stack, tmp_path: Path) -> None:
    """The commands of docs/how-to/schedules.md make both schedules, and what they start is billed under the ids of its table."""
    (tmp_path / "nightly.csv").write_text("model,prompt,size,quality\ngpt-image-2,A cup,1024x1024,low\n")
    temporal = find_temporal_binary()
    assert temporal is not None
    script = "set -e\n" + "".join(re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL))
    shell = await asyncio.create_subprocess_exec(
        *("sh", "-c", script.replace("starter.py", str(ROOT / "starter.py"))),
        cwd=tmp_path,
        env={
            **os.environ,
            "PATH": os.pathsep.join(
                [str(Path(sys.executable).parent), str(temporal.parent), os.environ["PATH"]]
            ),
            "TEMPORAL_ADDRESS": any_stack.client.service_client.config.target_host,
            "DATABASE_URL": any_stack.settings.ledger_url(),
            "IMAGE_STORE_URL": any_stack.settings.store_url(),
            "PROVIDER": any_stack.settings.provider_name(),
            "DATA_DIR": str(tmp_path / "data"),
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await shell.communicate()
    assert shell.returncode == 0, said.decode()

    ids = []
    for schedule_id in ("nightly-picture", "nightly-batch"):
        schedule = any_stack.client.get_schedule_handle(schedule_id)
        await schedule.trigger()
        (handle,) = await started_by(any_stack, schedule, 1)
        result = await handle.result()
        ids.append(result.get("run_id") or result["batch_id"])
        await schedule.delete()

    run_id, batch_id = ids
    assert re.fullmatch(r"image:default:nightly-\d{8}T\d{6}Z", run_id)
    assert len(any_stack.entries(run_id)) == 1
    assert re.fullmatch(r"nightly-\d{8}T\d{6}Z", batch_id)
    (line,) = batches.results_of(any_stack, batch_id)
    assert line.run_id == f"image:default:nightly-000002-{batch_id.removeprefix('nightly-')}"
    assert len(any_stack.entries(line.run_id)) == 1
