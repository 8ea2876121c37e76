"""Opening a site: every part a process of its own, on free loopback ports and in one folder, and all ended at the end."""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx2
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.runtime import Runtime, TelemetryConfig

from gpt_image_runs.local_stack.processes import LOOPBACK, choose_port
from gpt_image_runs.local_stack.temporal_server import wait_for_temporal
from tests.chaos.ledgers import open_ledger
from tests.chaos.site import Site
from tests.support.servers.site_parts import (
    ROOT,
    SIMULATOR,
    WORKER,
    Supervisor,
    describe_parts,
    temporal_command,
    wait_for_provider,
    wait_for_text,
)

_SKEWED_WORKER = ROOT / "tests" / "support" / "servers" / "skewed_worker.py"
_LIMITS = {
    # After this a worker takes an answer for lost; the slowest that comes at all takes 4.
    "PROVIDER_TIMEOUT_SECONDS": "8",
    # Calls that a worker's death interrupts, at most.
    "PROVIDER_CONCURRENCY": "8",
}


@asynccontextmanager
async def open_site(folder: Path, *, ledger_kind: str, skews: Sequence[int]) -> AsyncIterator[Site]:
    """Open a site. Whatever dies in it is started again, as an operator's supervisor would.

    There is one worker for each of `skews`: the seconds by which its clock is ahead.
    """
    async with AsyncExitStack() as parts:
        supervisor = Supervisor(folder, parts)
        ledger = await parts.enter_async_context(open_ledger(ledger_kind, folder))
        provider_port, temporal_port = choose_port(), choose_port()
        await supervisor.start(
            "simulator", (*SIMULATOR, "--port", str(provider_port), "--books", str(folder / "books.jsonl"))
        )
        temporal = await supervisor.start("temporal", temporal_command(temporal_port, folder / "temporal.db"))
        address, provider_url = f"{LOOPBACK}:{temporal_port}", f"http://{LOOPBACK}:{provider_port}"
        await wait_for_temporal(temporal, address)
        provider = await parts.enter_async_context(httpx2.AsyncClient(base_url=provider_url, timeout=30))
        await wait_for_provider(provider)
        environment = {**describe_parts(folder, ledger.url, address, provider_url), **_LIMITS}
        site = Site(
            folder=folder,
            ledger=ledger,
            client=await Client.connect(
                address, data_converter=pydantic_data_converter, runtime=_make_quiet_runtime()
            ),
            provider=provider,
            temporal=temporal,
            workers=[
                await supervisor.start(f"worker-{index}", _worker_command(skew), environment)
                for index, skew in enumerate(skews)
            ],
            restarts=supervisor.restarts,
        )
        await _wait_for_workers(folder, len(skews))
        yield site


def _worker_command(skew: int) -> tuple[str, ...]:
    return (sys.executable, str(_SKEWED_WORKER), str(skew)) if skew else WORKER


def _make_quiet_runtime() -> Runtime:
    """Build a runtime that logs no warnings: the server is down on purpose."""
    return Runtime(telemetry=TelemetryConfig(logging=None))


async def _wait_for_workers(folder: Path, count: int) -> None:
    """Wait until the workers poll: before that there is no store and no worker to strike."""
    logs = [folder / f"worker-{index}.log" for index in range(count)]
    await asyncio.gather(*(wait_for_text(log, "worker_started") for log in logs))
