"""Run the site of a benchmark: every server, worker and driver is its own process on one machine."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from benchmarks.contestants import CONTESTANTS
from benchmarks.laps import Lap, LapResult, LapTimes, read_line
from benchmarks.processes import cpu_seconds
from gpt_image_runs.local_stack.processes import LOOPBACK, choose_port
from gpt_image_runs.local_stack.temporal_server import wait_for_temporal
from tests.support.servers.site_parts import (
    SIMULATOR,
    WORKER,
    Supervisor,
    describe_parts,
    make_environment,
    temporal_command,
    wait_for_provider,
    wait_for_text,
)

GRAINY_SIMULATOR = (sys.executable, "-m", "benchmarks.grainy_simulator")
_BARE_WORKER = (sys.executable, "-m", "benchmarks.bare_worker")
_MAX_LINE_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class BenchSite:
    """A running site. `pids` are its servers and workers by name.

    `environment` is what a command needs to find them.
    """

    client: Client
    environment: Mapping[str, str]
    pids: Mapping[str, int]
    drivers: Mapping[str, asyncio.subprocess.Process]

    async def run_lap(self, contestant: str, lap: Lap) -> LapResult:
        """Run a lap of one contestant while the others are idle."""
        watched = {**self.pids, "driver": self.drivers[contestant].pid}
        before = {name: cpu_seconds(pid) for name, pid in watched.items()}
        times = await send_lap(self.drivers[contestant], lap)
        spent = {name: cpu_seconds(pid) - before[name] for name, pid in watched.items()}
        return LapResult(runs=lap.runs, times=times, cpu_seconds=spent)


@asynccontextmanager
async def open_bench_site(
    folder: Path, *, in_flight: int, simulator: Sequence[str] = SIMULATOR
) -> AsyncIterator[BenchSite]:
    """Start the Temporal server on its file, the simulator, both workers, and a driver for each contestant."""
    async with AsyncExitStack() as parts:
        supervisor = Supervisor(folder, parts)
        provider_port, temporal_port = choose_port(), choose_port()
        address, provider_url = f"{LOOPBACK}:{temporal_port}", f"http://{LOOPBACK}:{provider_port}"
        ledger_url = f"sqlite:///{folder / 'ledger.db'}"
        environment = {
            **describe_parts(folder, ledger_url, address, provider_url),
            "PROVIDER_CONCURRENCY": str(in_flight),
        }
        provider_process = await supervisor.start("simulator", (*simulator, "--port", str(provider_port)))
        temporal = await supervisor.start("temporal", temporal_command(temporal_port, folder / "temporal.db"))
        await wait_for_temporal(temporal, address)
        async with httpx2.AsyncClient(base_url=provider_url, timeout=30) as provider:
            await wait_for_provider(provider)
        children = {
            "server": temporal,
            "worker": await supervisor.start("worker", WORKER, environment),
            "bare worker": await supervisor.start("bare-worker", _BARE_WORKER, environment),
            "simulator": provider_process,
        }
        for log in ("worker.log", "bare-worker.log"):
            await wait_for_text(folder / log, "worker_started")
        yield BenchSite(
            client=await Client.connect(address, data_converter=pydantic_data_converter),
            environment=make_environment(environment),
            pids={name: child.pid for name, child in children.items() if child.pid},
            drivers={name: await start_driver(name, folder, environment, parts) for name in CONTESTANTS},
        )


async def start_driver(
    name: str, folder: Path, environment: Mapping[str, str], parts: AsyncExitStack
) -> asyncio.subprocess.Process:
    """Start a driver and wait until it is ready. It ends when its stdin is closed."""
    log = parts.enter_context((folder / f"driver-{name}.log").open("ab"))
    driver = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.driver", name),
        env=make_environment(environment),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=log,
        limit=_MAX_LINE_BYTES,
    )
    parts.push_async_callback(_end, driver)
    await _read(driver)
    return driver


async def send_lap(driver: asyncio.subprocess.Process, lap: Lap) -> LapTimes:
    """Have a driver run a lap."""
    assert driver.stdin
    driver.stdin.write((json.dumps(vars(lap)) + "\n").encode())
    await driver.stdin.drain()
    return LapTimes(**await _read(driver))


async def _read(driver: asyncio.subprocess.Process) -> dict[str, Any]:
    assert driver.stdout
    line = await driver.stdout.readline()
    assert line, "A driver ended early: see its log in the site's folder."
    return read_line(line.decode())


async def _end(driver: asyncio.subprocess.Process) -> None:
    if driver.stdin:
        driver.stdin.close()
    try:
        await asyncio.wait_for(driver.wait(), 20)
    except TimeoutError:
        driver.kill()
        await driver.wait()
