"""A Temporal server and a provider that stay, and `python worker.py` processes that come and go."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from temporalio.client import Client, WorkflowHandle

from gpt_image_runs.contracts import names
from gpt_image_runs.database.open import open_database
from gpt_image_runs.images.store import ImageStore
from simulator.server import Simulator
from tests.support.servers.forked_program import WORKER, ForkedProgram, start_worker_program
from tests.support.servers.stack import CONTRACT, run_temporal, sqlite_url

WORST_WAIT_SECONDS = 120
# Either event says that a worker polls.
_READY = "worker_started"

WorkerProcess = asyncio.subprocess.Process | ForkedProgram


class Site:
    """A Temporal server, a provider, a ledger and a store, on which workers are started as processes."""

    def __init__(self, client: Client, simulator: Simulator, folder: Path, parts: AsyncExitStack) -> None:
        self.client = client
        self.simulator = simulator
        self.folder = folder
        self.store = ImageStore.from_url((folder / "images").as_uri())
        self.database = open_database(sqlite_url(folder), create=True)
        self.log = folder / "worker.log"
        parts.callback(self.database.close)
        self._parts = parts

    async def start_worker(
        self, *arguments: str, program: Path = WORKER, settings: Mapping[str, str] | None = None
    ) -> WorkerProcess:
        """Start `python worker.py` as a user would, and wait until it polls."""
        environment = {
            **os.environ,
            "TEMPORAL_ADDRESS": self.client.service_client.config.target_host,
            "DATABASE_URL": sqlite_url(self.folder),
            "IMAGE_STORE_URL": (self.folder / "images").as_uri(),
            "OPENAI_API_KEY": "sk-test-0123456789abcdef",
            "OPENAI_BASE_URL": self.simulator.base_url,
            "PROVIDER": "simulator",
            **(settings or {}),
        }
        process: WorkerProcess
        with self.log.open("ab") as log:
            if program == WORKER:
                process = await start_worker_program(arguments, environment, log)
            else:
                process = await asyncio.create_subprocess_exec(
                    sys.executable, str(program), *arguments, env=environment, stdout=log, stderr=log
                )
        self._parts.push_async_callback(kill, process)
        ready = self._count_ready() + 1
        await until(lambda: self._count_ready() >= ready or process.returncode is not None)
        assert process.returncode is None, self.log.read_text()
        return process

    async def start_run(
        self, name: str, prompt: str | None = None, **options: Any
    ) -> WorkflowHandle[Any, Any]:
        """Start a run whose prompt is its name, unless another one is given."""
        return await self.client.start_workflow(
            names.WORKFLOW,
            {**CONTRACT, "prompt": prompt or name, "quality": "low", **options},
            id=names.run_id_for("default", name),
            task_queue=names.RUNS_QUEUE,
        )

    def _count_ready(self) -> int:
        text = self.log.read_text()
        return text.count(_READY)


async def kill(process: WorkerProcess) -> None:
    """Kill a process that a test started, if it still runs."""
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(WORST_WAIT_SECONDS):
        while not condition():
            await asyncio.sleep(0.02)


@asynccontextmanager
async def open_site(folder: Path) -> AsyncIterator[Site]:
    """Run the servers of a site, and end its workers with the block."""
    async with AsyncExitStack() as parts:
        simulator = await parts.enter_async_context(Simulator())
        client = await parts.enter_async_context(run_temporal())
        yield Site(client, simulator, folder, parts)
