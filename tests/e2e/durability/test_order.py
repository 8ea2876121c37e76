"""Which runs go first where runs wait: one slot, a backlog that is complete before the first is taken, and positions in the
provider's books instead of times."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client
from temporalio.common import Priority

from activities.registry import build_provider_worker, build_runs_worker
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts import names as priorities
from gpt_image_runs.database.open import open_database
from gpt_image_runs.settings import Settings
from gpt_image_runs.temporal.rate_limits import hold_limit
from simulator.server import Simulator
from tests.support.servers.stack import run_temporal, sqlite_url

# A run: its tenant and its priority.
Wish = tuple[str, int | None]


async def carry_out(
    folder: Path, wishes: Sequence[Wish], *, images_per_minute: int | None = None
) -> list[str]:
    """Start runs in this order, then a fleet of one slot; return their tenants in the order of their calls."""
    async with AsyncExitStack() as parts:
        client = await parts.enter_async_context(run_temporal())
        simulator = await parts.enter_async_context(Simulator())
        settings = Settings(
            database_url=sqlite_url(folder),
            image_store_url=(folder / "images").as_uri(),
            openai_api_key="sk-test-0123456789abcdef",
            openai_base_url=simulator.base_url,
            provider="simulator",
            provider_concurrency=1,
        )
        database = await asyncio.to_thread(open_database, settings.ledger_url(), create=True)
        parts.callback(database.close)
        limit = await hold_limit(client, names.PROVIDER_QUEUE, images_per_minute)
        await parts.enter_async_context(
            build_runs_worker(client, settings, database, images_per_minute=limit)
        )
        count = 0
        for count, (tenant, priority) in enumerate(wishes, start=1):
            await start(client, tenant, priority, number=count)
        await wait_for_backlog(client, count)
        await parts.enter_async_context(await build_provider_worker(client, settings, database, parts))
        async with asyncio.timeout(120):
            while len(simulator.books.entries) < count:
                await asyncio.sleep(0.05)
        return [(entry.client_request_id or "").split(":")[1] for entry in simulator.books.entries]


async def start(client: Client, tenant: str, priority: int | None, *, number: int) -> None:
    payload = {
        "model": "gpt-image-2",
        "prompt": f"Cup {number}",
        "tenant": tenant,
        "size": "1024x1024",
        "quality": "low",
        "output_format": "jpeg",
    }
    handle = await client.start_workflow(
        names.WORKFLOW,
        payload,
        id=names.run_id_for(tenant, f"order-{number}"),
        task_queue=names.RUNS_QUEUE,
        priority=Priority(priority_key=priority, fairness_key=tenant),
    )
    async with asyncio.timeout(60):
        while not (await handle.describe()).raw_description.pending_activities:
            await asyncio.sleep(0.01)


async def wait_for_backlog(client: Client, count: int) -> None:
    request = DescribeTaskQueueRequest(
        namespace=client.namespace,
        task_queue=TaskQueue(name=names.PROVIDER_QUEUE),
        task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
        report_stats=True,
    )
    async with asyncio.timeout(60):
        while (
            await client.workflow_service.describe_task_queue(request)
        ).stats.approximate_backlog_count < count:
            await asyncio.sleep(0.02)


async def test_interactive_run_overtakes_batch_runs(tmp_path: Path) -> None:
    """Behind eight batch runs an interactive one is the first to be called, or the second where one was under way."""
    wishes = [*[("batch", priorities.PRIORITY_BATCH)] * 8, ("person", priorities.PRIORITY_INTERACTIVE)]
    assert "person" in (await carry_out(tmp_path, wishes))[:2]


async def test_run_without_priority_goes_between_interactive_and_batch_runs(tmp_path: Path) -> None:
    """A service that names no priority waits for people, and not for batches."""
    wishes: list[Wish] = [("batch", priorities.PRIORITY_BATCH)] * 3
    wishes += [("service", None)] * 3
    wishes += [("person", priorities.PRIORITY_INTERACTIVE)] * 3
    order = await carry_out(tmp_path, wishes)
    assert order[1:] in (
        ["person"] * 2 + ["service"] * 3 + ["batch"] * 3,  # nothing was under way
        ["person"] * 3 + ["service"] * 3 + ["batch"] * 2,
    )


async def test_tenants_take_turns_in_a_backlog(tmp_path: Path) -> None:
    """Four runs of a tenant behind twelve of another are done by the tenth call: the server takes turns, and does not
    make the second wait for the whole of the first."""
    wishes = [("large", priorities.PRIORITY_BATCH)] * 12 + [("small", priorities.PRIORITY_BATCH)] * 4
    order = await carry_out(tmp_path, wishes)
    assert [tenant for tenant in order[:10] if tenant == "small"] == ["small"] * 4
