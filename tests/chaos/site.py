"""The site of a campaign: what can be done to its parts from outside, by signals, files and HTTP.

How the parts are started is in `opening`.
"""

import asyncio
import os
import signal
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
from temporalio.client import Client

from gpt_image_runs.local_stack.processes import ChildProcess
from gpt_image_runs.local_stack.temporal_server import wait_for_temporal
from simulator.faults import parse_fault
from tests.chaos.ledgers import Ledger
from tests.chaos.planned_runs import PlannedRun

_DRAIN_SECONDS = 60


@dataclass(kw_only=True)
class Site:
    """A running site. `restarts` counts what the supervisors of its parts had to start again, by part."""

    folder: Path
    ledger: Ledger
    client: Client
    provider: httpx2.AsyncClient
    temporal: ChildProcess
    workers: list[ChildProcess]
    restarts: Counter[str] = field(default_factory=Counter)

    @property
    def images(self) -> Path:
        """The folder of the image store."""
        return self.folder / "images"

    @property
    def books(self) -> Path:
        """The provider's books, a file of JSON lines."""
        return self.folder / "books.jsonl"

    async def script(self, run: PlannedRun) -> None:
        """Script the faults of a run's requests."""
        if run.faults:
            faults = [parse_fault(text).model_dump(mode="json", exclude_unset=True) for text in run.faults]
            answer = await self.provider.post(
                "/_simulator/faults", json={"faults": faults, "match": run.mark}
            )
            answer.raise_for_status()

    async def wait_until_provider_is_idle(self) -> None:
        """Clients may have left; what the provider still works on, it will have been paid for."""
        while (await self.provider.get("/_simulator/books")).json()["in_progress"]:
            await asyncio.sleep(0.1)

    async def strike_worker(self, index: int, number: signal.Signals) -> None:
        """Signals a worker. Its supervisor starts it again once it has ended; a kill is waited for."""
        await _strike(self.workers[index], number, wait=number is signal.SIGKILL)

    async def strike_temporal(self, number: signal.Signals) -> None:
        """End the Temporal server and wait until it answers again, on the same file and the same port."""
        await _strike(self.temporal, number, wait=True)
        await wait_for_temporal(self.temporal, self.client.service_client.config.target_host)

    async def take_store_away(self) -> None:
        """Move the store's folder away, and put a file in its place."""
        self.images.rename(self.folder / "images-away")
        self.images.write_text("in the way")

    async def bring_store_back(self) -> None:
        """Move the store's folder back."""
        self.images.unlink()
        (self.folder / "images-away").rename(self.images)

    async def stop_workers(self) -> None:
        """Let every worker finish its calls and end."""
        await asyncio.gather(*(worker.stop(patience_seconds=_DRAIN_SECONDS) for worker in self.workers))


async def _strike(child: ChildProcess, number: signal.Signals, *, wait: bool) -> None:
    while child.pid is None:
        await asyncio.sleep(0.05)
    struck = child.pid
    os.kill(struck, number)
    while wait and child.pid in {struck, None}:
        await asyncio.sleep(0.05)
