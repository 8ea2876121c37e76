"""Saves a history of each shape that has none yet: `python -m tests.support.runs.save_histories`, after a change that adds a shape.

A saved history is never written again: it stands for the runs that are under way when a new version is deployed.
"""

import asyncio
import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any, TypeVar

from temporalio.client import WorkflowHandle
from temporalio.contrib.workflow_streams import WorkflowStreamClient

from gpt_image_runs.contracts import names
from simulator.batches.faults import BatchFaultKind
from tests.support.files.picture_files import make_picture
from tests.support.runs import economy_runs as economy
from tests.support.runs.batch_runs import start_batch, until
from tests.support.runs.run_states import decide, until_held
from tests.support.runs.schedules import NIGHTS, backfill, create_schedule, started_by
from tests.support.runs.submissions import submit
from tests.support.servers.s3_server import BUCKET, run_s3_server, s3_environment
from tests.support.servers.stack import (
    CONTRACT,
    Stack,
    activities_in,
    run_application,
    run_stack,
    run_temporal,
    sqlite_url,
)
from tests.support.servers.webhook_receiver import run_receiver

T = TypeVar("T")

HISTORIES = Path(__file__).parents[2] / "e2e" / "histories"
STREAMED = {**CONTRACT, "model": "gpt-image-2", "quality": "low", "partial_images": 2}
SHAPES: dict[str, dict[str, Any]] = {
    "generated": CONTRACT,
    "edited": CONTRACT,
    "four": {**CONTRACT, "n": 4},
    "estimated": {**CONTRACT, "prompt": "A cup [simulate:missing_usage]"},
    "held": {**CONTRACT, "prompt": "A cup [simulate:missing_usage]", "missing_usage": "hold"},
    "refused": {**CONTRACT, "n": 11},
    "rejected": {**CONTRACT, "prompt": "A cup [simulate:moderation_blocked]"},
    "resent": {**CONTRACT, "prompt": "A cup that is sent again"},
    "billed-later": {**CONTRACT, "prompt": "A cup whose bill has to wait"},
    "billed-later-cancelled": {**CONTRACT, "prompt": "A cup that is cancelled while its bill has to wait"},
    "decided-on": {**CONTRACT, "prompt": "A cup that is lost", "unknown_outcome": "hold"},
    "given-up": {**CONTRACT, "prompt": "A cup that is lost", "unknown_outcome": "hold"},
    "failure-told": {**CONTRACT, "prompt": "A cup whose failure is told"},
    "streamed": {**STREAMED, "prompt": "A cup that is shown"},
    "streamed-again": {**STREAMED, "prompt": "A cup that is shown twice"},
}
# Runs that are started with several arguments.
SURPLUS: dict[str, tuple[Any, ...]] = {"surplus-refused": (CONTRACT, "and one more")}
# Those with a subscriber to their partial pictures.
SUBSCRIBED = {"streamed"}
# What is decided about the shapes that are held.
DECISIONS = {"decided-on": "resend", "given-up": "give_up"}
# Where the deployment knows the provider's limit.
LIMITED: dict[str, dict[str, Any]] = {"limited": {**CONTRACT, "n": 4}}
# Runs whose end is told, each with the history of its notification: taken, and refused.
TOLD: dict[str, dict[str, Any]] = {
    "told": {**CONTRACT, "prompt": "A cup that is told of"},
    "told-failed": {**CONTRACT, "prompt": "A cup [simulate:moderation_blocked]"},
}
NOTIFICATIONS = {"told": "notification-taken", "told-failed": "notification-rejected"}
# Runs whose end is told though they were cancelled before a worker took them.
TOLD_EARLY: dict[str, dict[str, Any]] = {
    "told-cancelled-unchecked": {**CONTRACT, "prompt": "A cup that nobody has checked"}
}
_FOLDER = re.compile(re.escape(tempfile.gettempdir()) + r"/\w+")
# A limit of a thousand images a second.
FAR_OFF = 60_000

# Runs that are started with the first of these submissions, held, and meanwhile submitted with the others.
SUBMITTED: dict[str, tuple[dict[str, Any], ...]] = {
    "submitted": (CONTRACT, CONTRACT, {**CONTRACT, "quality": "low"}, {"n": 11}),
    "submission-refused": ({**CONTRACT, "n": 11},),
}

# Corrections of a run with a usage that cannot be true, in this order.
CORRECTIONS: dict[str, dict[str, Any]] = {
    "still-pending": {"action": "reprice"},
    "reconciled": {"action": "reconcile", "usage": {"input_tokens": 50, "output_tokens": 4160}},
    "reversed": {"action": "reverse"},
    "correction-refused": {"action": "reconcile", "usage": {"input_tokens": -1}},
}
# Decisions about a tenant's budget.
BUDGET_DECISIONS: dict[str, dict[str, Any]] = {
    "budget-decided": {"limits": {"month": "250.00", "day": None}},
    "budget-refused": {"limits": {"year": "1.00"}},
}
# Economy batches of three lines for two models: how each of them ends.
ECONOMY: dict[str, dict[str, Any]] = {
    "economy-settled": {},
    "economy-expired": {"fault": BatchFaultKind.EXPIRED},
    "economy-cancelled": {"cancel": True},
}
CORRECTED = "image:default:history-corrected"
QUOTES: dict[str, dict[str, Any]] = {
    "quoted": {**CONTRACT, "request_id": "history-quoted"},
    "quote-refused": {**CONTRACT, "n": 11},
}
# Days beside the books of the simulator's organization, in which nothing happened.
COMPARISONS: dict[str, dict[str, Any]] = {
    "compared": {"day": "2026-11-20"},
    "comparison-refused": {"day": "yesterday"},
}

# Runs that a schedule starts. What is saved is the workflow that the server starts, not the child that is the run.
SCHEDULED: dict[str, dict[str, Any]] = {"scheduled": {**CONTRACT, "prompt": "A cup of every night"}}

# Batches of some slow lines. What is saved of the third is its first run, which went on in another.
BATCHES: dict[str, dict[str, Any]] = {
    "batch-done": {},
    "batch-paused-and-cancelled": {"window": 1},
    "batch-continued": {"window": 1, "step_seconds": 1, "longest_history": 20},
    "batch-refused": {"window": 0},
}


def history_path(name: str) -> Path:
    """Return the path of a shape's history."""
    return HISTORIES / f"{name}.json"


async def save_missing() -> None:
    """Run the shapes that have no history, on S3 so that no history names a folder of this machine."""
    HISTORIES.mkdir(exist_ok=True)
    with run_s3_server() as s3, tempfile.TemporaryDirectory() as folder:
        os.environ.update(s3_environment(s3))
        ledger = sqlite_url(Path(folder))
        async with run_stack(ledger, f"s3://{BUCKET}", openai_admin_key="sk-admin-test") as stack:
            await _save_runs(stack)
            for name, how in _missing(ECONOMY):
                await _save_economy(stack, name, **how)
            if not all(history_path(name).exists() for name in CORRECTIONS):
                await _save_corrections(stack)
            await _save_orders(stack)
            for name, payload in _missing(SCHEDULED):
                await _save_scheduled(stack, name, payload)
            for name, options in _missing(BATCHES):
                await _save_batch(stack, name, options)
        if not all(history_path(name).exists() for name in LIMITED):
            url = sqlite_url(Path(folder) / "limited")
            async with run_stack(url, f"s3://{BUCKET}", images_per_minute=FAR_OFF) as stack:
                for name, payload in LIMITED.items():
                    await _save(stack, name, payload)
        if not all(history_path(name).exists() for name in TOLD):
            await _save_told(Path(folder) / "told")
        for name, payload in _missing(TOLD_EARLY):
            await _save_told_early(Path(folder) / name, name, payload)


async def _save_runs(stack: Stack) -> None:
    for name, arguments in _missing(SURPLUS):
        surplus: WorkflowHandle[Any, Any] = await stack.client.start_workflow(
            names.WORKFLOW, args=arguments, id=f"image:default:history-{name}", task_queue=names.RUNS_QUEUE
        )
        await _write(surplus, name)
    stack.simulator.script("server_error", match="sent again")
    stack.simulator.script("server_error", match="failure is told")
    stack.simulator.script("stream_broken=1", match="shown twice")
    for name, payload in _missing(SHAPES):
        await _save(stack, name, payload)
    for name, payloads in _missing(SUBMITTED):
        await _save_submitted(stack, name, payloads)


async def _save_orders(stack: Stack) -> None:
    for name, decision in _missing(BUDGET_DECISIONS):
        await _save_decision(stack, name, decision)
    for name, payload in _missing(QUOTES):
        await _save_by_id(stack, name, names.PRICE_QUOTE, payload)
    for name, order in _missing(COMPARISONS):
        await _save_by_id(stack, name, names.PROVIDER_RECONCILIATION, order)


def _missing(shapes: dict[str, T]) -> list[tuple[str, T]]:
    return [(name, shape) for name, shape in shapes.items() if not history_path(name).exists()]


async def _save(stack: Stack, name: str, payload: dict[str, Any]) -> None:
    if name == "edited":
        image = await stack.store.put_image(make_picture("PNG", (1024, 1024)))
        payload = {**payload, "images": [image.uri]}
    if name in DECISIONS:
        stack.simulator.script("reset_after_payment", match=payload["prompt"])
    if name.startswith("billed-later"):
        _take_ledger_away(stack)
    handle = await stack.start(payload, run_id=f"image:default:history-{name}")
    if name.startswith("billed-later"):
        await _bring_ledger_back(stack, handle, cancel=name.endswith("cancelled"))
    if name in SUBSCRIBED:
        stream = WorkflowStreamClient.create(stack.client, handle.id)
        assert len([item async for item in stream.subscribe(names.TOPIC_PARTIAL_IMAGES)]) == 2
    if name in DECISIONS:
        await until_held(handle)
        await decide(handle, {"decision": DECISIONS[name], "actor": "ada", "reason": "for the history"})
    await _write(handle, name)


async def _save_submitted(stack: Stack, name: str, payloads: tuple[dict[str, Any], ...]) -> None:
    prompt = f"A cup that is {name}"
    stack.simulator.script("reset_after_payment", match=prompt)
    run_id = f"image:default:history-{name}"
    first, *others = ({**payload, "prompt": prompt, "unknown_outcome": "hold"} for payload in payloads)
    receipt, handle = await submit(stack.client, first, run_id)
    if receipt.status == "accepted":
        await until_held(handle)
        for payload in others:
            await submit(stack.client, payload, run_id)
        await decide(handle, {"decision": "resend", "actor": "ada", "reason": "for the history"})
    await _write(handle, name)


async def _save_told(folder: Path) -> None:
    async with (
        run_receiver() as receiver,
        run_stack(sqlite_url(folder), f"s3://{BUCKET}", **receiver.settings()) as stack,
    ):
        receiver.answers.extend([204, 410])
        for name, payload in TOLD.items():
            handle = await stack.start(
                {**payload, "notify": receiver.url}, run_id=f"image:default:history-{name}"
            )
            await _write(handle, name)
            found = [
                event.child_workflow_execution_started_event_attributes.workflow_execution.workflow_id
                for event in await stack.events(handle.id)
            ]
            told = stack.client.get_workflow_handle(next(filter(None, found)))
            await _write(told, NOTIFICATIONS[name])


async def _save_told_early(folder: Path, name: str, payload: dict[str, Any]) -> None:
    async with run_receiver() as receiver, run_temporal() as client:
        handle: WorkflowHandle[Any, Any] = await client.start_workflow(
            names.WORKFLOW,
            {**payload, "notify": receiver.url},
            id=f"image:default:history-{name}",
            task_queue=names.RUNS_QUEUE,
        )
        await handle.cancel()
        async with run_application(client, sqlite_url(folder), f"s3://{BUCKET}", **receiver.settings()):
            await _write(handle, name)
            await receiver.until(1)


def _take_ledger_away(stack: Stack) -> None:
    refuse = "SELECT RAISE(ABORT, 'the ledger is away');"
    with stack.database.writing() as connection:
        connection.exec_driver_sql(f"CREATE TRIGGER away BEFORE INSERT ON ledger_entries BEGIN {refuse} END")


async def _bring_ledger_back(stack: Stack, handle: WorkflowHandle[Any, Any], *, cancel: bool) -> None:
    """Repair the ledger once the bill is an activity that waits, or once it is tried anew for a cancelled run."""
    waiting = ("record_billing", "scheduled")
    while activities_in(await stack.events(handle.id)).count(waiting) < 1:
        await asyncio.sleep(0.05)
    if cancel:
        await handle.cancel()
        while activities_in(await stack.events(handle.id)).count(waiting) < 2:
            await asyncio.sleep(0.05)
    with stack.database.writing() as connection:
        connection.exec_driver_sql("DROP TRIGGER away")


async def _save_corrections(stack: Stack) -> None:
    prompt = "A cup [simulate:malformed_usage=negative]"
    await stack.run({**CONTRACT, "prompt": prompt}, run_id=CORRECTED)
    for name, correction in CORRECTIONS.items():
        whole = {"run_id": CORRECTED, "reason": "for the history", "actor": "ada", **correction}
        workflow_id = f"reconcile:{CORRECTED}:{name}"
        handle = await stack.client.start_workflow(
            names.RECONCILIATION, whole, id=workflow_id, task_queue=names.RUNS_QUEUE
        )
        await _write(handle, name)


async def _save_by_id(stack: Stack, name: str, workflow: str, order: dict[str, Any]) -> None:
    handle = await stack.client.start_workflow(
        workflow, order, id=f"history:{name}", task_queue=names.RUNS_QUEUE
    )
    await _write(handle, name)


async def _save_decision(stack: Stack, name: str, decision: dict[str, Any]) -> None:
    whole = {"tenant": "acme", "reason": "for the history", "actor": "ada", **decision}
    handle = await stack.client.start_workflow(
        names.BUDGET_CHANGE, whole, id=f"budget:acme:{name}", task_queue=names.RUNS_QUEUE
    )
    await _write(handle, name)


async def _save_scheduled(stack: Stack, name: str, payload: dict[str, Any]) -> None:
    schedule = await create_schedule(stack, names.WORKFLOW, payload, f"image:default:history-{name}")
    await backfill(schedule, NIGHTS[0])
    (handle,) = await started_by(stack, schedule, 1)
    await _write(handle, name)


async def _save_batch(stack: Stack, name: str, options: dict[str, Any]) -> None:
    prompts = [f"Cup number {number} [simulate:delay=1]" for number in range(12)]
    handle = await start_batch(stack, prompts, batch_id=name, **options)
    if name == "batch-paused-and-cancelled":
        await until(stack, name, lambda progress: progress.done > 0)
        await handle.signal(names.SIGNAL_PAUSE)
        await until(stack, name, lambda progress: progress.state == "paused" and not progress.running)
        await handle.signal(names.SIGNAL_RESUME)
        await until(stack, name, lambda progress: progress.state == "running")
        await handle.cancel()
    first = stack.client.get_workflow_handle(handle.id, run_id=handle.first_execution_run_id)
    await asyncio.gather(handle.result(), return_exceptions=True)
    await _write(first, name)


async def _save_economy(
    stack: Stack, name: str, *, fault: BatchFaultKind | None = None, cancel: bool = False
) -> None:
    if fault:
        stack.simulator.batches.script(fault, lines=1)
    requests = economy.make_requests(name, ("A cup", "A plate", "A spoon"))
    requests[2]["model"] = "gpt-image-2"
    before = len(stack.simulator.batches.all)
    handle = await economy.start(stack.client, await economy.write_pages(stack.store, name, requests))
    await economy.until_sent(stack.simulator, before + 2)
    if cancel:
        await handle.signal(names.SIGNAL_CANCEL)
    await economy.finish(stack.simulator, handle)
    await _write(handle, name)


async def _write(handle: WorkflowHandle[Any, Any], name: str) -> None:
    await asyncio.gather(handle.result(), return_exceptions=True)
    if history_path(name).exists():
        return
    history = json.loads((await handle.fetch_history()).to_json())
    history_path(name).write_text(json.dumps(_without_machine(history), indent=1) + "\n")
    sys.stdout.write(f"{history_path(name).name} is saved.\n")


def _without_machine(part: Any) -> Any:
    """Remove process names, stack trace paths and our folder from a history: replaying needs none of it."""
    if isinstance(part, dict):
        return {
            key: "" if key in {"identity", "stackTrace"} else _without_machine(value)
            for key, value in part.items()
        }
    if isinstance(part, list):
        return [_without_machine(item) for item in part]
    return _FOLDER.sub("/data", part) if isinstance(part, str) else part


if __name__ == "__main__":
    asyncio.run(save_missing())
    sys.stdout.flush()
    os._exit(0)
