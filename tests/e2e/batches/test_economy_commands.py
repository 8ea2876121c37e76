"""The `batch` commands with `--economy` beside a running worker."""

import asyncio
import json
from decimal import Decimal
from pathlib import Path

import pytest

from gpt_image_runs.contracts import names
from simulator.batches.faults import BatchFaultKind
from tests.support.runs.batch_runs import find, new_batch_id, results_of, until, write_lines
from tests.support.runs.command_line import Ended
from tests.support.runs.commands import await_end, start_command, type_command
from tests.support.runs.economy_runs import finish, look, start, until_sent, write_pages
from tests.support.servers.stack import Stack

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def type_batch(stack: Stack, folder: Path, *arguments: object) -> Ended:
    return await type_command(stack, folder, "batch", *map(str, arguments))


async def run_to_its_end(stack: Stack, folder: Path, *arguments: object) -> Ended:
    """Run a command that watches an economy batch while the provider's batches end."""
    process = await start_command(stack, folder, "batch", *map(str, arguments))
    ended = asyncio.create_task(await_end(process))
    name = Path(str(arguments[1])).stem
    handle = stack.client.get_workflow_handle(names.economy_workflow_id(name))
    async with asyncio.timeout(90):
        while not ended.done():
            for batch in stack.simulator.batches.all:
                if batch.status in {"validating", "in_progress", "finalizing", "cancelling"}:
                    await stack.simulator.batches.finish(batch)
            await look(handle)
            await asyncio.wait([ended], timeout=0.3)
    return await ended


async def start_detached(stack: Stack, folder: Path, file: Path, *arguments: object) -> Ended:
    """Start a batch that stays at the provider, whose time does not advance."""
    before = len(stack.simulator.batches.all)
    started = await type_batch(stack, folder, "run", file, "--economy", "--detach", "--json", *arguments)
    await until_sent(stack.simulator, before + 1)
    await until(stack, file.stem, lambda progress: progress.running > 0)
    return started


def paid_lines(stack: Stack, batch_id: str) -> list[str]:
    """List the lines that the provider charged for, each as often as it did."""
    return sorted(
        str(entry.custom_id)
        for entry in stack.simulator.books.paid
        if entry.custom_id and f":{batch_id}-" in entry.custom_id
    )


async def test_economy_file_runs_once_and_changed_is_a_conflict(any_stack: Stack, tmp_path: Path) -> None:
    stack = any_stack
    file = write_lines(tmp_path, ["A cup", "A plate", "A spoon [simulate:moderation_blocked]"])
    first = await run_to_its_end(stack, tmp_path, "run", file, "--economy", "--json")
    again = await type_batch(stack, tmp_path, "run", file, "--economy", "--json")
    other = await type_batch(stack, tmp_path, "run", file, "--economy", "--n", 2, "--json")
    standard = await type_batch(stack, tmp_path, "run", file, "--json")
    status = await type_batch(stack, tmp_path, "status", file.stem)
    listed = await type_batch(stack, tmp_path, "list", "--json")
    shown = await type_batch(stack, tmp_path, "results", file.stem, "--json")
    table = await type_batch(stack, tmp_path, "results", file.stem, "--out", tmp_path / "out.jsonl")
    sheet = await type_batch(stack, tmp_path, "results", file.stem, "--html", tmp_path / "out.html", "--json")

    assert [ended.status for ended in (first, again, other, standard)] == [1, 1, 2, 2]
    assert (first.document["state"], first.document["done"], first.document["failed"]) == ("done", 2, 1)
    assert (first.document["economy"], first.document["images"]) == (True, 2)
    assert again.document == first.document
    assert "stands for other lines already" in other.document["message"]
    assert "is an economy batch already" in standard.document["message"]
    assert "half, in the provider's own batches" in status.out
    assert f"charged   {first.document['charged_usd']} USD" in status.out
    assert file.stem in [batch["batch_id"] for batch in listed.document["batches"]]
    lines = shown.document["lines"]
    assert [line["state"] for line in lines] == ["done", "done", "failed"]
    assert lines[2]["error_type"] == "ContentRefused"
    entries = [stack.entries(line["run_id"])[0] for line in lines[:2]]
    assert [entry.flags for entry in entries] == [("batch_price",)] * 2
    assert [entry.amount_usd for entry in entries] == [line["charge_usd"] for line in lines[:2]]
    assert sum(Decimal(line["charge_usd"]) for line in lines[:2]) == Decimal(first.document["charged_usd"])
    written = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert written == lines
    assert (table.status, sheet.status, sheet.document["pictures"]) == (0, 0, 2)
    assert "A plate" in (tmp_path / "out.html").read_text()
    assert len(paid_lines(stack, file.stem)) == 2


async def test_economy_batch_shows_parts_cannot_pause_and_is_cancelled_for_free(
    stack: Stack, tmp_path: Path
) -> None:
    file = write_lines(tmp_path, ["A cup", "A plate"])
    started = await start_detached(stack, tmp_path, file)
    handle = stack.client.get_workflow_handle(names.economy_workflow_id(file.stem))
    status = await type_batch(stack, tmp_path, "status", file.stem, "--json")
    [at_provider] = [
        batch
        for batch in stack.simulator.batches.all
        if batch.batch_id == status.document["parts"][0]["provider_batch_id"]
    ]
    await stack.simulator.batches.advance(at_provider)  # its lines are checked, and none is carried out yet
    attached = await type_batch(stack, tmp_path, "run", file, "--economy", "--detach", "--json")
    paused = await type_batch(stack, tmp_path, "pause", file.stem, "--json")
    busy = await type_batch(stack, tmp_path, "retry", file.stem, "--json")
    cancelled = await type_batch(stack, tmp_path, "cancel", file.stem, "--json")
    async with asyncio.timeout(60):
        while at_provider.status not in {"cancelling", "cancelled"}:
            await asyncio.sleep(0.05)
    watched = await run_to_its_end(stack, tmp_path, "watch", file.stem, "--json")
    await handle.result()
    late = await type_batch(stack, tmp_path, "cancel", file.stem, "--json")
    again = await run_to_its_end(stack, tmp_path, "retry", file.stem, "--json")

    assert (started.document["attached"], attached.document["attached"]) == (False, True)
    assert (status.document["state"], status.document["running"]) == ("running", 2)
    assert Decimal(status.document["reserved_usd"]) > 0
    [part] = status.document["parts"]
    assert part["provider_batch_id"] in [batch.batch_id for batch in stack.simulator.batches.all]
    assert (paused.status, "which cannot be paused" in paused.document["message"]) == (2, True)
    assert (busy.status, "is under way" in busy.document["message"]) == (2, True)
    assert (cancelled.status, watched.status, late.status) == (0, 1, 2)
    assert (watched.document["state"], watched.document["cancelled"]) == ("cancelled", 2)
    assert (watched.document["charged_usd"], watched.document["reserved_usd"]) == ("0.000000", "0.000000")
    assert (again.status, again.document["done"], again.document["round"]) == (0, 2, 2)
    assert len(paid_lines(stack, file.stem)) == 2


async def test_limit_keeps_lines_back_until_it_is_raised(any_stack: Stack, tmp_path: Path) -> None:
    stack = any_stack
    file = write_lines(tmp_path, [f"Cup number {number}" for number in range(4)], model="gpt-image-1")
    first = await run_to_its_end(stack, tmp_path, "run", file, "--economy", "--max-cost", "0.02", "--json")
    worst = sum(
        attempt.reserved_micro_usd or 0
        for line in results_of(stack, file.stem)
        for attempt in stack.attempts(line.run_id or "")
    )
    higher = await run_to_its_end(stack, tmp_path, "retry", file.stem, "--max-cost", "1", "--json")

    assert (first.document["state"], first.document["max_cost_usd"]) == ("capped", "0.020000")
    assert 0 < first.document["done"] < 4
    assert first.document["done"] + first.document["waiting"] == 4
    assert worst <= 20_000
    assert (higher.status, higher.document["state"], higher.document["done"]) == (0, "done", 4)
    assert len(paid_lines(stack, file.stem)) == 4


async def test_expired_lines_wait_for_retry(stack: Stack, tmp_path: Path) -> None:
    stack.simulator.batches.script(BatchFaultKind.EXPIRED, lines=1)
    file = write_lines(tmp_path, ["A cup", "A plate", "A spoon"])
    first = await run_to_its_end(stack, tmp_path, "run", file, "--economy", "--json")
    same = await type_batch(stack, tmp_path, "run", file, "--economy", "--json")
    again = await run_to_its_end(stack, tmp_path, "retry", file.stem, "--json")

    assert (first.status, first.document["done"], first.document["failed"]) == (1, 1, 2)
    assert (same.status, same.document["round"]) == (1, 1)
    assert (again.status, again.document["done"], again.document["failed"]) == (0, 3, 0)
    assert len(paid_lines(stack, file.stem)) == 3


async def test_id_of_a_standard_batch_is_a_conflict(stack: Stack, tmp_path: Path) -> None:
    file = write_lines(tmp_path, ["A cup"])
    done = await type_batch(stack, tmp_path, "run", file, "--json")
    refused = await type_batch(stack, tmp_path, "run", file, "--economy", "--json")
    order = await write_pages(stack.store, file.stem, [{"prompt": "A cup", "request_id": "own"}])
    handle = await start(stack.client, order)
    with pytest.raises(Exception, match="Workflow execution failed"):
        await handle.result()

    assert (done.status, refused.status) == (0, 2)
    assert "is a batch at the standard price already" in refused.document["message"]
    assert find(stack, file.stem) is not None
    assert len(results_of(stack, file.stem)) == 1


@pytest.mark.parametrize("option", [("--window", 4), ("--fail-fast",)])
async def test_options_without_effect_are_refused(
    stack: Stack, tmp_path: Path, option: tuple[object, ...]
) -> None:
    file = write_lines(tmp_path, ["A cup"])
    refused = await type_batch(stack, tmp_path, "run", file, "--economy", *option, "--json")

    assert (refused.status, find(stack, file.stem)) == (2, None)
    assert f"{option[0]} has no effect on an economy batch" in refused.document["message"]


async def test_batch_started_by_its_workflow_is_listed_with_results(stack: Stack, tmp_path: Path) -> None:
    batch_id = new_batch_id()
    requests = [
        {"prompt": "A cup", "model": "gpt-image-2", "quality": "low", "request_id": f"{batch_id}-1"},
        {"prompt": "A cup", "model": "gpt-image-2", "n": 11, "request_id": f"{batch_id}-2"},
    ]
    await finish(
        stack.simulator, await start(stack.client, await write_pages(stack.store, batch_id, requests))
    )
    shown = await type_batch(stack, tmp_path, "results", batch_id, "--json")

    assert [line["state"] for line in shown.document["lines"]] == ["done", "failed"]
    assert shown.document["lines"][1]["error_type"] == "RequestRefused"
    assert (shown.document["batch"]["state"], shown.document["batch"]["round"]) == ("done", 1)
