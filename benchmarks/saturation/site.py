"""Run a site whose provider has a limit: a Temporal server on a file, the simulator, and worker processes."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from gpt_image_runs.contracts import names
from gpt_image_runs.local_stack.processes import LOOPBACK, ChildProcess, choose_port
from gpt_image_runs.local_stack.temporal_server import (
    find_temporal_binary,
    server_arguments,
    server_command,
    wait_for_temporal,
)
from gpt_image_runs.temporal.search_attributes import register_search_attributes
from simulator.request_log import BookEntry

ROOT = Path(__file__).parents[2]
CONCURRENCY = 64
_START_SECONDS = 60
_DRAIN_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class Site:
    """A running site. Each worker uses its name as project, which tells them apart in the provider's books."""

    folder: Path
    client: Client
    workers: tuple[ChildProcess, ...]

    async def stop_workers(self) -> None:
        """Stop the workers after their calls in flight, which then appear in the books."""
        await asyncio.gather(*(worker.stop(patience_seconds=_DRAIN_SECONDS) for worker in self.workers))

    def read_books(self) -> list[BookEntry]:
        """Return every request that the provider received so far."""
        lines = (self.folder / "books.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        return [BookEntry.model_validate_json(line) for line in lines if line.endswith("\n")]


@asynccontextmanager
async def open_site(
    folder: Path, *, images_per_minute: int, latency_seconds: float, workers: int
) -> AsyncIterator[Site]:
    """Run a site while the block runs. Its workers know the provider's limit."""
    async with AsyncExitStack() as parts:
        address = await _start_temporal(folder, parts)
        client = await Client.connect(address, data_converter=pydantic_data_converter)
        await register_search_attributes(client, names.SEARCH_ATTRIBUTES)
        base_url = await _start_provider(folder, parts, images_per_minute, latency_seconds)
        settings = _worker_settings(folder, address, base_url)
        started = [
            await _start_worker(folder, parts, f"worker-{number}", images_per_minute, settings)
            for number in range(1, workers + 1)
        ]
        yield Site(folder=folder, client=client, workers=tuple(started))


async def _start_temporal(folder: Path, parts: AsyncExitStack) -> str:
    binary = find_temporal_binary()
    if binary is None:
        raise RuntimeError("The temporal binary is missing: install it with `make setup`.")
    port, ui_port = choose_port(), choose_port()
    command = server_command(binary, port, ui_port, server_arguments(folder / "temporal.db", {}))
    child = await _start(folder, parts, "temporal", command, {})
    await wait_for_temporal(child, f"{LOOPBACK}:{port}")
    return f"{LOOPBACK}:{port}"


async def _start_provider(folder: Path, parts: AsyncExitStack, limit: int, latency_seconds: float) -> str:
    command = [sys.executable, "-m", "simulator", "--books", str(folder / "books.jsonl")]
    command += ["--latency", str(latency_seconds), "--images-per-minute", str(limit)]
    child = await _start(folder, parts, "simulator", command, {"PYTHONPATH": str(ROOT)})
    await _wait_for_line(child, "base_url")
    return str(json.loads(child.log.read_text().splitlines()[0])["base_url"])


def _worker_settings(folder: Path, address: str, base_url: str) -> dict[str, str]:
    return {
        "TEMPORAL_ADDRESS": address,
        "DATABASE_URL": f"sqlite:///{folder / 'ledger.db'}",
        "IMAGE_STORE_URL": (folder / "images").as_uri(),
        "OPENAI_API_KEY": "sk-simulated",
        "OPENAI_BASE_URL": base_url,
        "PROVIDER": "simulator",
        "PROVIDER_CONCURRENCY": str(CONCURRENCY),
    }


async def _start_worker(
    folder: Path, parts: AsyncExitStack, name: str, limit: int, settings: Mapping[str, str]
) -> ChildProcess:
    command = [sys.executable, str(ROOT / "worker.py"), "--images-per-minute", str(limit)]
    child = await _start(folder, parts, name, command, {**settings, "OPENAI_PROJECT_ID": name})
    await _wait_for_line(child, "worker_started")
    return child


async def _wait_for_line(child: ChildProcess, words: str) -> None:
    async with asyncio.timeout(_START_SECONDS):
        while not any(
            words in line for line in child.log.read_text().splitlines(keepends=True) if line.endswith("\n")
        ):
            if not child.pid:
                raise child.failure()
            await asyncio.sleep(0.05)


async def _start(
    folder: Path, parts: AsyncExitStack, name: str, command: list[str], changes: Mapping[str, str]
) -> ChildProcess:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("TEMPORAL_", "OPENAI_"))}
    child = ChildProcess(name, command, log=folder / f"{name}.log", environment={**kept, **changes})
    parts.push_async_callback(child.stop, patience_seconds=_DRAIN_SECONDS)
    await child.start()
    return child
