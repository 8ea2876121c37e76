"""The embedded stack: Temporal's dev server with its Web UI, the provider simulator where there is no key, and a worker.

For one machine and no setup. State is kept in DATA_DIR, servers listen on loopback only, and whoever started the
stack ends it. Production uses servers of its own and `worker.py` alone.
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
SIMULATOR = "simulator"
"""The provider's name where the simulator stands in: its own calendar of models, and marked on every entry."""

_ROOT = Path(__file__).resolve().parents[2]
_START_SECONDS = 60
_SERVER_PATIENCE_SECONDS = 15
# A paid call in flight is let finish; worker.py bounds its own drain, and this is a little more.
_WORKER_PATIENCE_SECONDS = 720

Tell = Callable[[str], None]


@contextlib.asynccontextmanager
async def run_embedded_stack(
    settings: Settings, search_attributes: Mapping[str, str], queues: Sequence[str], *, tell: Tell
) -> AsyncIterator[Stack]:
    """Runs the whole stack while the block runs. `queues` are those that the worker has to poll before the
    stack counts as up; `tell` gets a sentence for whatever a person should know.

    Raises:
        StackClaimed: another process runs the stack of this DATA_DIR.
        ProcessFailed: a part of it does not come up, with the end of its log.
    """
    async with contextlib.AsyncExitStack() as parts:
        _claim_data_dir(settings.data_dir, parts, tell)
        provider = None if has_provider(settings) else await _start_simulator(settings, parts, tell)
        server = await _start_temporal(settings, search_attributes, parts, tell)
        await _start_worker(settings, parts, tell, address=server.address, provider=provider, queues=queues)
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
    """Whether the settings name a provider with a key; where not, the simulator stands in."""
    return settings.provider_key() is not None


def _claim_data_dir(data_dir: Path, parts: contextlib.AsyncExitStack, tell: Tell) -> None:
    try:
        if protect_data_dir(data_dir, create=True):
            tell(f"Other users of this machine could read DATA_DIR {data_dir}: it is yours alone now.")
        (data_dir / "logs").mkdir(mode=0o700, exist_ok=True)
        parts.enter_context(claim_stack(data_dir))
    except OSError as error:
        raise ProcessFailed(
            f"DATA_DIR {data_dir} cannot be written ({error.strerror}). Set DATA_DIR to a folder of yours."
        ) from error


def simulator_environment(base_url: str) -> dict[str, str]:
    """The settings that make a worker or a command use the simulator at `base_url`."""
    return {
        "OPENAI_BASE_URL": base_url,
        "OPENAI_API_KEY": "simulated",
        "OPENAI_ADMIN_KEY": "sk-admin-simulated",
        "PROVIDER": SIMULATOR,
    }


class _Server(NamedTuple):
    """Where Temporal listens."""

    address: str
    ui_url: str
    http_url: str


async def _start_temporal(
    settings: Settings, search_attributes: Mapping[str, str], parts: contextlib.AsyncExitStack, tell: Tell
) -> _Server:
    port, ui_port, http_port = choose_port(TEMPORAL_PORT), choose_port(UI_PORT), choose_port(HTTP_PORT)
    for what, usual, chosen in (
        ("Temporal's", TEMPORAL_PORT, port),
        ("the Web UI's", UI_PORT, ui_port),
        ("the HTTP API's", HTTP_PORT, http_port),
    ):
        if chosen != usual:
            tell(f"Port {usual} is taken by another program; {what} port is {chosen}.")
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
        environment=_inherit({}),
        umask=0o077,
    )
    await _run(child, parts, patience_seconds=_SERVER_PATIENCE_SECONDS)
    await wait_for_temporal(child, listens.address)
    child.watch(tell)
    return listens


async def _start_simulator(settings: Settings, parts: contextlib.AsyncExitStack, tell: Tell) -> str:
    for name in settings.provider_addresses():
        tell(f"{name} is set, but no key for it: the simulator stands in.")
    port = choose_port()
    books = settings.data_dir / "simulator-books.jsonl"
    command = [sys.executable, "-m", "simulator", "--port", str(port), "--books", str(books)]
    log = settings.data_dir / "logs" / "simulator.log"
    child = ChildProcess(
        "provider simulator",
        command,
        log=log,
        environment=_inherit({"PYTHONPATH": str(_ROOT)}),
        umask=0o077,
    )
    await _run(child, parts, patience_seconds=_SERVER_PATIENCE_SECONDS)
    await _wait_for_port(child, port)
    child.watch(tell)
    return f"http://{LOOPBACK}:{port}/v1"


async def _start_worker(
    settings: Settings,
    parts: contextlib.AsyncExitStack,
    tell: Tell,
    *,
    address: str,
    provider: str | None,
    queues: Sequence[str],
) -> None:
    environment = _inherit({"TEMPORAL_ADDRESS": address})
    # A build waits for an operator who makes it current, and this server is nobody's.
    for name in ("WORKER_DEPLOYMENT_NAME", "WORKER_BUILD_ID"):
        environment.pop(name, None)
    if provider:
        environment |= simulator_environment(provider)
        environment.pop("AZURE_OPENAI_ENDPOINT", None)
    log = settings.data_dir / "logs" / "worker.log"
    child = ChildProcess(
        "worker", [sys.executable, str(_ROOT / "worker.py")], log=log, environment=environment
    )
    await _run(child, parts, patience_seconds=_WORKER_PATIENCE_SECONDS)
    await _wait_for_pollers(child, address, queues)
    child.watch(tell)


def _inherit(changes: Mapping[str, str]) -> dict[str, str]:
    """This process's environment with changes, without what would lead a child to another Temporal than ours."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TEMPORAL_")}
    return {**kept, **changes}


async def _run(child: ChildProcess, parts: contextlib.AsyncExitStack, *, patience_seconds: float) -> None:
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
