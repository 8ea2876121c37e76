"""The `batch` commands beside a running worker."""

import asyncio
import csv
import json
import signal
from pathlib import Path
from typing import Any

import pytest

from gpt_image_runs.contracts import names
from tests.support.runs.batch_runs import calls_of, find, new_batch_id, sum_paid, until, write_lines
from tests.support.runs.command_line import Ended
from tests.support.runs.commands import await_end, start_command, type_command
from tests.support.servers.stack import Stack

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def type_batch(stack: Stack, folder: Path, *arguments: object) -> Ended:
    return await type_command(stack, folder, "batch", *map(str, arguments))


def write_table(folder: Path, batch_id: str) -> Path:
    path = folder / f"{batch_id}.csv"
    path.write_text(
        "prompt,size,quality,metadata.order\n"
        "Cup number one,1024x1024,low,4711\n"
        '"Cup number two, blue",1536x1024,low,4712\n'
        "Cup number three [simulate:moderation_blocked],1024x1024,low,\n"
    )
    return path


async def test_batch_file_runs_once_and_changed_is_a_conflict(any_stack: Stack, tmp_path: Path) -> None:
    batch_id = new_batch_id()
    file = write_table(tmp_path, batch_id)
    first = await type_batch(any_stack, tmp_path, "run", file, "--json")
    again = await type_batch(any_stack, tmp_path, "run", file, "--json")
    other = await type_batch(any_stack, tmp_path, "run", file, "--quality", "high", "--n", 2, "--json")
    status = await type_batch(any_stack, tmp_path, "status", batch_id)
    listed = await type_batch(any_stack, tmp_path, "list", "--json")
    shown = await type_batch(any_stack, tmp_path, "results", batch_id, "--json")

    calls = calls_of(any_stack, batch_id)
    assert (first.status, again.status, other.status) == (1, 1, 2)
    assert (first.document["state"], first.document["done"], first.document["failed"]) == ("done", 2, 1)
    assert again.document == first.document
    assert other.document["message"].startswith(f"The batch {batch_id} stands for other lines already")
    assert len(calls) == 3
    assert f"charged   {first.document['charged_usd']} USD" in status.out
    assert f"python starter.py batch retry {batch_id}" in status.out
    assert batch_id in [batch["batch_id"] for batch in listed.document["batches"]]
    lines: list[dict[str, Any]] = shown.document["lines"]
    assert [line["state"] for line in lines] == ["done", "done", "failed"]
    assert sum(int(line["charge_usd"].replace(".", "")) for line in lines[:2]) == sum_paid(calls)
    assert lines[2]["error_type"] == "ContentRefused"
    entry = any_stack.entries(f"image:default:{batch_id}-000002")[0]
    assert entry.metadata == {"order": "4711"}


async def test_file_is_a_conflict_if_other_lines_take_its_id_meanwhile(stack: Stack, tmp_path: Path) -> None:
    batch_id = new_batch_id()
    late = await start_command(stack, tmp_path, "batch", "run", "-", "--id", batch_id, "--json")
    assert late.stdin is not None
    # More than fits into a pipe: once it is written the batch was looked for, and not found.
    late.stdin.write(write_lines(tmp_path, ["A cup " * 300] * 300).read_bytes())
    await late.stdin.drain()
    first = await type_batch(stack, tmp_path, "run", write_lines(tmp_path, ["A cup"], batch_id), "--json")
    ended = await await_end(late)

    assert (first.status, first.document["done"]) == (0, 1)
    assert ended.status == 2
    assert ended.document["message"].startswith(f"The batch {batch_id} stands for other lines already")
    assert len(calls_of(stack, batch_id)) == 1


async def test_results_are_written_as_json_lines_table_and_page(stack: Stack, tmp_path: Path) -> None:
    batch_id = new_batch_id()
    await type_batch(stack, tmp_path, "run", write_table(tmp_path, batch_id))
    for name in ("out.jsonl", "out.csv"):
        assert (await type_batch(stack, tmp_path, "results", batch_id, "--out", tmp_path / name)).status == 0
    sheet = await type_batch(stack, tmp_path, "results", batch_id, "--html", tmp_path / "out.html", "--json")
    refused = await type_batch(stack, tmp_path, "results", batch_id, "--out", tmp_path / "out.txt")
    text = await type_batch(stack, tmp_path, "results", batch_id)

    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    with (tmp_path / "out.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert [line["line"] for line in lines] == [2, 3, 4]
    assert [row["line"] for row in rows] == ["2", "3", "4"]
    assert rows[1]["sizes"] == "1536x1024"
    assert [row["charge_usd"] for row in rows[:2]] == [line["charge_usd"] for line in lines[:2]]
    for line in lines[:2]:
        assert await stack.store.read(line["pictures"][0]["uri"])
        assert line["output_tokens"] > 0
    assert (refused.status, sheet.status) == (2, 0)
    assert sheet.document["pictures"] == 2
    page = (tmp_path / "out.html").read_text()
    assert "Cup number two, blue" in page
    assert page.count("data:image/webp") >= 2
    assert "ContentRefused: " in text.out


async def test_wrong_lines_are_skipped_only_with_skip_invalid(stack: Stack, tmp_path: Path) -> None:
    file = write_lines(tmp_path, ["one", " ", "three"])
    refused = await type_batch(stack, tmp_path, "run", file, "--json")
    unknown = await type_batch(stack, tmp_path, "status", file.stem, "--json")
    skipped = await type_batch(stack, tmp_path, "run", file, "--skip-invalid", "--json")
    shown = await type_batch(stack, tmp_path, "results", file.stem, "--json")

    assert (refused.status, unknown.status, skipped.status) == (2, 1, 0)
    assert refused.document["lines"][0].startswith("line 2: prompt is a text of 1 characters")
    assert "There is no batch" in unknown.document["message"]
    assert (skipped.document["done"], skipped.document["skipped"]) == (2, 1)
    assert [line["state"] for line in shown.document["lines"]] == ["done", "skipped", "done"]
    assert len(calls_of(stack, file.stem)) == 2


async def test_batch_stopped_by_its_limit_continues_with_a_higher_one(stack: Stack, tmp_path: Path) -> None:
    file = write_lines(tmp_path, [f"Cup number {number}" for number in range(5)])
    first = await type_batch(stack, tmp_path, "run", file, "--max-cost", "0.02", "--json")
    same = await type_batch(stack, tmp_path, "run", file, "--json")
    higher = await type_batch(stack, tmp_path, "retry", file.stem, "--max-cost", "1", "--json")

    assert [ended.status for ended in (first, same, higher)] == [1, 1, 0]
    assert (first.document["state"], first.document["max_cost_usd"]) == ("capped", "0.020000")
    assert (same.document["state"], same.document["max_cost_usd"]) == ("capped", "0.020000")
    assert same.document["done"] == first.document["done"] > 0
    assert (higher.document["state"], higher.document["done"]) == ("done", 5)
    assert len(calls_of(stack, file.stem)) == 5


async def test_retry_starts_lines_of_unknown_outcome_only_when_asked(stack: Stack, tmp_path: Path) -> None:
    batch_id = new_batch_id()
    prompts = [f"Blocked cup of {batch_id}", f"Lost cup of {batch_id}"]
    stack.simulator.script("moderation_blocked", match=prompts[0])
    for _ in range(3):
        stack.simulator.script("reset_after_payment", match=prompts[1])
    file = write_lines(tmp_path, prompts, batch_id)
    first = await type_batch(stack, tmp_path, "run", file, "--json")
    unpaid = await type_batch(stack, tmp_path, "retry", batch_id, "--json")
    none = await type_batch(stack, tmp_path, "retry", batch_id, "--json")
    unknown = await type_batch(stack, tmp_path, "retry", batch_id, "--include-unknown", "--json")

    assert [ended.status for ended in (first, unpaid, none, unknown)] == [1, 1, 1, 0]
    assert "1 line may have been paid for without an answer" in unpaid.err
    assert (unpaid.document["done"], unpaid.document["failed"]) == (1, 1)
    assert "There is no line to start." in none.err
    assert (unknown.document["done"], unknown.document["unknown"]) == (2, 3)
    assert len(calls_of(stack, batch_id)) == 6


async def test_running_batch_is_paused_resumed_and_cancelled(stack: Stack, tmp_path: Path) -> None:
    file = write_lines(tmp_path, [f"Cup number {number} [simulate:delay=0.5]" for number in range(200)])
    started = await type_batch(stack, tmp_path, "run", file, "--window", 4, "--detach", "--json")
    await until(stack, file.stem, lambda progress: progress.done > 0)
    busy = await type_batch(stack, tmp_path, "retry", file.stem, "--json")
    paused = await type_batch(stack, tmp_path, "pause", file.stem, "--json")
    await until(stack, file.stem, lambda progress: progress.state == "paused" and not progress.running)
    attached = await type_batch(stack, tmp_path, "run", file, "--detach", "--json")
    await type_batch(stack, tmp_path, "resume", file.stem)
    await until(stack, file.stem, lambda progress: progress.state == "running")
    watching = asyncio.create_task(type_batch(stack, tmp_path, "watch", file.stem))
    cancelled = await type_batch(stack, tmp_path, "cancel", file.stem)
    watched = await watching
    late = await type_batch(stack, tmp_path, "pause", file.stem, "--json")
    nobody = await type_batch(stack, tmp_path, "cancel", "nobody", "--json")

    assert (started.document["status"], started.document["attached"]) == ("started", False)
    assert (busy.status, "is under way" in busy.document["message"]) == (2, True)
    assert paused.document == {"status": "asked", "batch_id": file.stem, "wish": "pause"}
    assert attached.document["attached"]
    assert cancelled.status == 0
    assert watched.status == 1
    assert f"✗ {file.stem} cancelled" in watched.out
    assert (late.status, late.document["state"]) == (2, "cancelled")
    assert (nobody.status, "There is no batch" in nobody.document["message"]) == (1, True)
    ended = find(stack, file.stem)
    assert ended is not None
    assert len(calls_of(stack, file.stem)) == ended.done < 200


async def test_ctrl_c_leaves_the_batch_running(stack: Stack, tmp_path: Path) -> None:
    file = write_lines(tmp_path, [f"Cup number {number} [simulate:delay=1]" for number in range(30)])
    process = await start_command(stack, tmp_path, "batch", "run", str(file), "--window", "4", "--json")
    await until(stack, file.stem, lambda progress: progress.done > 0)
    process.send_signal(signal.SIGINT)
    interrupted = await await_end(process)
    ended = await until(stack, file.stem, lambda progress: progress.has_ended)

    assert interrupted.status == 130
    assert interrupted.document["status"] == "running"
    assert f"python starter.py batch watch {file.stem}" in interrupted.err
    assert (ended.state, ended.done) == ("done", 30)


async def test_batch_of_a_terminated_workflow_continues_with_the_same_file(
    stack: Stack, tmp_path: Path
) -> None:
    file = write_lines(tmp_path, [f"Cup number {number} [simulate:delay=0.5]" for number in range(30)])
    await type_batch(stack, tmp_path, "run", file, "--window", 4, "--detach")
    await until(stack, file.stem, lambda progress: progress.done > 0)
    await stack.client.get_workflow_handle(names.batch_workflow_id(file.stem)).terminate()
    told = await type_batch(stack, tmp_path, "watch", file.stem, "--json")
    again = await type_batch(stack, tmp_path, "run", file, "--window", 100, "--json")

    assert (told.status, "is not running: its workflow has ended early" in told.document["message"]) == (
        1,
        True,
    )
    assert (again.status, again.document["done"]) == (0, 30)
    assert len(calls_of(stack, file.stem)) == 30


async def test_run_warns_of_held_runs_until_they_are_decided(stack: Stack, tmp_path: Path) -> None:
    batch_id = new_batch_id()
    prompt = f"Held cup of {batch_id}"
    stack.simulator.script("reset_after_payment", match=prompt)
    file = write_lines(tmp_path, [prompt, "A cup"], batch_id, unknown_outcome="hold")
    process = await start_command(stack, tmp_path, "batch", "run", str(file), "--json")
    said = b""
    while b"Runs that are held: 1." not in said:
        assert process.stderr is not None
        said += await asyncio.wait_for(process.stderr.readline(), 60)
    decided = await type_command(
        stack, tmp_path, "decide", f"{batch_id}-000001", "resend", "--reason", "a gift", "--json"
    )
    ended = await await_end(process)

    assert decided.status == 0
    assert (ended.status, ended.document["done"], ended.document["unknown"]) == (0, 2, 1)
