"""Run the embedded stack: Temporal's dev server with its Web UI, a worker, and the simulator if there is no key.

For one machine and no setup. State is kept in DATA_DIR, servers listen on loopback only, and the process that started
the stack stops it. Production uses its own servers and only `worker.py`.
"""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from temporalio.client import Client

from gpt_image_runs.local_stack.data_folder import protect_data_dir
from gpt_image_runs.local_stack.processes import LOOPBACK, ChildProcess, ProcessFailed, choose_port
from gpt_image_runs.local_stack.temporal_server import (
    download_temporal,
    find_temporal_binary,
    server_arguments,
    server_command,
    wait_for_temporal,
)
from gpt_image_runs.settings import Settings
from gpt_image_runs.temporal.connection import has_pollers
from gpt_image_runs.temporal.stack_file import Stack, claim_stack, publish_stack

TEMPORAL_PORT = 7233
UI_PORT = 8233
HTTP_PORT = 7243
# The simulator's provider name, with its own model catalog. It is recorded on every ledger entry.
SIMULATOR = "simulator"

_ROOT = Path(__file__).resolve().parents[2]
_START_SECONDS = 60
_SERVER_PATIENCE_SECONDS = 15
# A little more than worker.py's own limit for finishing paid calls in flight.
_WORKER_PATIENCE_SECONDS = 720

Report = Callable[[str], None]


@contextlib.asynccontextmanager
async def run_embedded_stack(
    settings: Settings, search_attributes: Mapping[str, str], queues: Sequence[str], *, report: Report
) -> AsyncIterator[Stack]:
    """Run the whole stack while the block runs.

    `queues` are those that the worker must poll before the stack counts as started. `report` receives messages for the
    user.

    Raises:
        StackClaimed: another process runs the stack of this DATA_DIR.
        ProcessFailed: a part of it does not start, with the end of its log.
    """
    async with contextlib.AsyncExitStack() as parts:
        _claim_data_dir(settings.data_dir, parts, report)
        provider = None if has_provider(settings) else await _start_simulator(settings, parts, report)
        server = await _start_temporal(settings, search_attributes, parts, report)
        await _start_worker(settings, parts, report, address=server.address, provider=provider, queues=queues)
        stack = Stack(
            pid=os.getpid(),
            temporal_address=server.address,
            ui_url=server.ui_url,
            provider_base_url=provider,
            http_url=server.http_url,
        )
        publish_stack(settings.data_dir, stack)
        yield stack


def has_provider(settings: Settings) -> bool:
    """Return whether a provider with a key is configured. Otherwise the simulator is used."""
    return settings.provider_key() is not None


def _claim_data_dir(data_dir: Path, parts: contextlib.AsyncExitStack, report: Report) -> None:
    try:
        if protect_data_dir(data_dir, create=True):
            report(f"Other users of this machine could read DATA_DIR {data_dir}. Only you can now.")
        (data_dir / "logs").mkdir(mode=0o700, exist_ok=True)
        parts.enter_context(claim_stack(data_dir))
    except OSError as error:
        raise ProcessFailed(
            f"DATA_DIR {data_dir} cannot be written ({error.strerror}). Set DATA_DIR to a folder that you can write to."
        ) from error


def simulator_environment(base_url: str) -> dict[str, str]:
    """Return the settings that make a worker or a command use the simulator at `base_url`."""
    return {
        "OPENAI_BASE_URL": base_url,
        "OPENAI_API_KEY": "simulated",
        "OPENAI_ADMIN_KEY": "sk-admin-simulated",
        "PROVIDER": SIMULATOR,
    }


class _Server(NamedTuple):
    """The addresses at which Temporal listens."""

    address: str
    ui_url: str
    http_url: str


async def _start_temporal(
    settings: Settings, search_attributes: Mapping[str, str], parts: contextlib.AsyncExitStack, report: Report
) -> _Server:
    port, ui_port, http_port = choose_port(TEMPORAL_PORT), choose_port(UI_PORT), choose_port(HTTP_PORT)
    for what, default, chosen in (
        ("Temporal's", TEMPORAL_PORT, port),
        ("the Web UI's", UI_PORT, ui_port),
        ("the HTTP API's", HTTP_PORT, http_port),
    ):
        if chosen != default:
            report(f"Port {default} is taken by another program; {what} port is {chosen}.")
    listens = _Server(f"{LOOPBACK}:{port}", f"http://{LOOPBACK}:{ui_port}", f"http://{LOOPBACK}:{http_port}")
    database = settings.data_dir / "temporal.db"
    binary = find_temporal_binary()
    if binary is None:
        server = await download_temporal(port, ui_port, database, http_port=http_port)
        parts.push_async_callback(server.shutdown)
        return listens
    arguments = server_arguments(database, search_attributes)
    command = server_command(binary, port, ui_port, arguments, http_port=http_port)
    child = ChildProcess(
        "Temporal server",
        command,
        log=settings.data_dir / "logs" / "temporal.log",
        environment=_build_environment({}),
        umask=0o077,
    )
    await _start_child(child, parts, patience_seconds=_SERVER_PATIENCE_SECONDS)
    await wait_for_temporal(child, listens.address)
    child.watch(report)
    return listens


async def _start_simulator(settings: Settings, parts: contextlib.AsyncExitStack, report: Report) -> str:
    for name in settings.provider_addresses():
        report(f"{name} is set without a key for it: using the simulator.")
    port = choose_port()
    books = settings.data_dir / "simulator-books.jsonl"
    command = [sys.executable, "-m", "simulator", "--port", str(port), "--books", str(books)]
    log = settings.data_dir / "logs" / "simulator.log"
    child = ChildProcess(
        "provider simulator",
        command,
        log=log,
        environment=_build_environment({"PYTHONPATH": str(_ROOT)}),
        umask=0o077,
    )
    await _start_child(child, parts, patience_seconds=_SERVER_PATIENCE_SECONDS)
    await _wait_for_port(child, port)
    child.watch(report)
    return f"http://{LOOPBACK}:{port}/v1"


async def _start_worker(
    settings: Settings,
    parts: contextlib.AsyncExitStack,
    report: Report,
    *,
    address: str,
    provider: str | None,
    queues: Sequence[str],
) -> None:
    environment = _build_environment({"TEMPORAL_ADDRESS": address})
    # A build waits until an operator makes it current, and this server has no operator.
    for name in ("WORKER_DEPLOYMENT_NAME", "WORKER_BUILD_ID"):
        environment.pop(name, None)
    if provider:
        environment |= simulator_environment(provider)
        environment.pop("AZURE_OPENAI_ENDPOINT", None)
    log = settings.data_dir / "logs" / "worker.log"
    child = ChildProcess(
        "worker", [sys.executable, str(_ROOT / "worker.py")], log=log, environment=environment
    )
    await _start_child(child, parts, patience_seconds=_WORKER_PATIENCE_SECONDS)
    await _wait_for_pollers(child, address, queues)
    child.watch(report)


def _build_environment(changes: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment with changes, without variables that point to another Temporal."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TEMPORAL_")}
    return {**kept, **changes}


async def _start_child(
    child: ChildProcess, parts: contextlib.AsyncExitStack, *, patience_seconds: float
) -> None:
    parts.push_async_callback(child.stop, patience_seconds=patience_seconds)
    await child.start()


async def _wait_for_port(child: ChildProcess, port: int) -> None:
    deadline = asyncio.get_running_loop().time() + _START_SECONDS
    while child.pid and asyncio.get_running_loop().time() < deadline:
        try:
            _, writer = await asyncio.open_connection(LOOPBACK, port)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return
    raise child.failure()


async def _wait_for_pollers(child: ChildProcess, address: str, queues: Sequence[str]) -> None:
    deadline = asyncio.get_running_loop().time() + _START_SECONDS
    client = await Client.connect(address)
    while not await has_pollers(client, queues):
        if not child.pid or asyncio.get_running_loop().time() > deadline:
            raise child.failure()
        await asyncio.sleep(0.05)
