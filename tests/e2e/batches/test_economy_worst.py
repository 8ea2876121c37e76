"""Economy batches with killed workers, terminated workflows, a day of waiting, long histories and large files."""

import asyncio
import json
import signal
from datetime import timedelta
from pathlib import Path

import pytest
from temporalio.client import WorkflowHandle
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment

from gpt_image_runs.billing.attempts.attempts import AttemptLog
from gpt_image_runs.billing.reports.entries import list_entries
from gpt_image_runs.billing.verification.verify import LedgerVerification
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.economy import EconomySummary
from gpt_image_runs.local_stack.temporal_server import find_temporal_binary
from simulator.batches.faults import BatchFaultKind
from tests.support.runs.economy_runs import (
    finish,
    look,
    make_requests,
    run_ids,
    show,
    start,
    until_sent,
    write_pages,
)
from tests.support.servers.stack import run_application, run_stack, skipping_time, sqlite_url
from tests.support.servers.worker_site import open_site, until


async def test_worker_killed_after_creating_a_batch_creates_no_second_one(tmp_path: Path) -> None:
    async with open_site(tmp_path) as site:
        site.simulator.batches.script(BatchFaultKind.CREATE_REPLY_HANGS)
        first_worker = await site.start_worker()
        requests = make_requests("killed", ("A cup", "A plate"))
        handle = await start(site.client, await write_pages(site.store, "killed", requests))
        await until(lambda: len(site.simulator.batches.all) == 1)
        log = AttemptLog(site.database)
        before = [log.list_attempts(run_id) for run_id in run_ids(requests)]
        first_worker.send_signal(signal.SIGKILL)
        await first_worker.wait()
        await site.start_worker()

        summary = await finish(site.simulator, handle)

        assert [[attempt.outcome for attempt in attempts] for attempts in before] == [["unknown"]] * 2
        assert len(site.simulator.batches.all) == 1
        assert (summary.done, len(site.simulator.books.paid), len(list_entries(site.database))) == (2, 2, 2)


async def test_worker_killed_while_settling_bills_each_line_once(tmp_path: Path) -> None:
    async with open_site(tmp_path) as site:
        first_worker = await site.start_worker()
        requests = make_requests("settling", (f"Cup {number}" for number in range(24)))
        handle = await start(site.client, await write_pages(site.store, "settling", requests))
        await until_sent(site.simulator, 1)
        await site.simulator.batches.finish(site.simulator.batches.all[0])
        await look(handle)
        await until(lambda: len(list_entries(site.database)) >= 4)
        first_worker.kill()
        await first_worker.wait()
        billed = len(list_entries(site.database))
        await site.start_worker()

        summary = await finish(site.simulator, handle)

        assert 4 <= billed < 24
        assert (summary.done, len(list_entries(site.database)), len(site.simulator.books.paid)) == (
            24,
            24,
            24,
        )
        assert list(LedgerVerification(site.database, lambda _done, _all: None).find()) == []


async def test_terminated_workflow_continues_its_round_when_restarted(tmp_path: Path) -> None:
    async with run_stack(sqlite_url(tmp_path), (tmp_path / "images").as_uri()) as stack:
        requests = make_requests("again", ("A cup", "A plate"))
        order = await write_pages(stack.store, "again", requests)
        first = await start(stack.client, order)
        await until_sent(stack.simulator, 1)
        await first.terminate()

        summary = await finish(stack.simulator, await start(stack.client, order))

        assert (summary.round, summary.done) == (1, 2)
        assert len(stack.simulator.batches.all) == 1
        assert [len(stack.attempts(run_id)) for run_id in run_ids(requests)] == [1, 1]


async def test_settled_batch_unknown_to_the_provider_is_not_sent_again(tmp_path: Path) -> None:
    async with run_stack(sqlite_url(tmp_path), (tmp_path / "images").as_uri()) as stack:
        requests = make_requests("forgotten", ("A cup", "A plate"))
        order = await write_pages(stack.store, "forgotten", requests)
        stack.simulator.batches.script(BatchFaultKind.LINES_UNTOLD, lines=1)
        await finish(stack.simulator, await start(stack.client, order))
        paid = len(stack.simulator.books.paid)
    [end] = (tmp_path / "images").rglob("economy/round-00001/end.json")
    end.unlink()

    async with run_stack(sqlite_url(tmp_path), (tmp_path / "images").as_uri()) as forgetful:
        summary = EconomySummary.model_validate(await (await start(forgetful.client, order)).result())

        assert forgetful.simulator.batches.all == ()
        assert (summary.done, summary.unknown, paid) == (1, 1, 2)


async def count_activities(handle: WorkflowHandle[object, object], name: str) -> int:
    history = await handle.fetch_history()
    return sum(
        event.activity_task_scheduled_event_attributes.activity_type.name == name for event in history.events
    )


async def test_waiting_for_a_day_polls_rarely_and_runs_nothing_between(tmp_path: Path) -> None:
    async with (
        skipping_time() as environment,
        run_application(environment.client, sqlite_url(tmp_path), (tmp_path / "images").as_uri()) as stack,
    ):
        requests = make_requests("patient", ("A cup",))
        handle = await start(environment.client, await write_pages(stack.store, "patient", requests))
        await until_sent(stack.simulator, 1)
        await environment.sleep(timedelta(hours=20))
        described = await handle.describe()
        looks = await count_activities(handle, names.LOOK_AT_ECONOMY_PARTS)
        await stack.simulator.batches.finish(stack.simulator.batches.all[0])

        summary = EconomySummary.model_validate(await handle.result())

        assert 130 <= looks <= 150
        assert list(described.raw_description.pending_activities) == []
        assert summary.done == 1


async def test_long_history_continues_as_new_without_paying_again(tmp_path: Path) -> None:
    async with (
        await WorkflowEnvironment.start_local(
            data_converter=pydantic_data_converter,
            dev_server_existing_path=str(find_temporal_binary()),
            search_attributes=list(names.SEARCH_ATTRIBUTES),
            dev_server_extra_args=["--dynamic-config-value", "limit.historyCount.suggestContinueAsNew=20"],
        ) as environment,
        run_application(environment.client, sqlite_url(tmp_path), (tmp_path / "images").as_uri()) as stack,
    ):
        requests = make_requests("long", ("A cup", "A plate"))
        requests[1]["model"] = "gpt-image-2"
        first = await start(environment.client, await write_pages(stack.store, "long", requests))
        await until_sent(stack.simulator, 2)
        handle = environment.client.get_workflow_handle(first.id)
        for _ in range(5):
            looks = (await show(handle)).looks
            await look(handle)
            async with asyncio.timeout(30):
                while (await show(handle)).looks <= looks:
                    await asyncio.sleep(0.05)
        runs = (await handle.describe()).run_id
        summary = await finish(stack.simulator, environment.client.get_workflow_handle(first.id))

        assert runs != first.result_run_id
        assert (summary.done, len(stack.simulator.batches.all)) == (2, 2)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak is Linux's to tell")
async def test_large_result_file_is_settled_with_little_memory(tmp_path: Path) -> None:
    async with run_stack(sqlite_url(tmp_path), (tmp_path / "images").as_uri()) as stack:
        requests = make_requests("large", (f"Cup {number}" for number in range(18)), model="gpt-image-2")
        order = await write_pages(stack.store, "large", requests)
        handle = await start(stack.client, order)
        await until_sent(stack.simulator, 1)
        await stack.simulator.batches.finish(stack.simulator.batches.all[0])
        [output] = [
            file for file in stack.simulator.batches.file_store.files if file.purpose == "batch_output"
        ]
        padded = [
            json.dumps({**json.loads(line), "padding": "x" * 6_000_000}).encode()
            for line in output.path.read_bytes().splitlines()
        ]
        output.path.write_bytes(b"\n".join(padded) + b"\n")
        size = output.path.stat().st_size
        del padded

        before = forget_the_peak()
        summary = await finish(stack.simulator, handle)

        assert size > 108_000_000
        assert summary.done == 18
        # Four lines at once, each as it came, as text and as what is kept of it; and what the allocator is slow to give back.
        assert read_memory("VmHWM") - before < size * 0.9


def forget_the_peak() -> int:
    """Reset the kernel's record of this process's peak memory, and return its current memory in bytes.

    The kernel's, as Python's own tracing may crash where other threads work while it is turned off (CPython 3.11).
    """
    Path("/proc/self/clear_refs").write_text("5")
    return read_memory("VmRSS")


def read_memory(field: str) -> int:
    """Read a figure of this process's status, in bytes."""
    [line] = [
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{field}:")
    ]
    return int(line.split()[1]) * 1024
