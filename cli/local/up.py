"""`up`: run the embedded stack until Ctrl-C."""

import asyncio
import math
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from rich.text import Text
from temporalio.common import SearchAttributeKey

from cli import options
from cli.errors import Interrupted
from cli.output import Output
from cli.runs.view import describe_lines
from cli.session import Session, hush_temporal, open_session
from gpt_image_runs.contracts import names
from gpt_image_runs.database.engine import describe_location, parse_url
from gpt_image_runs.local_stack.stack import run_embedded_stack
from gpt_image_runs.temporal.connection import connect_to_stack, create_nexus_endpoint
from gpt_image_runs.temporal.search_attributes import name_indexed_type
from gpt_image_runs.temporal.stack_file import Stack, StackClaimed, read_stack_file

_QUEUES = (names.RUNS_QUEUE, names.PROVIDER_QUEUE)
_SAME_WISH_SECONDS = 1.0


def up(*, as_json: options.AsJson = False) -> None:
    """Run Temporal, its Web UI, the worker and (without a key) the provider simulator, until Ctrl-C.

    Everything listens on loopback and stores its data in DATA_DIR. Commands in other terminals find it automatically.
    """
    session, output = open_session(), Output(as_json=as_json)
    asyncio.run(_run_until_stopped(session, output))


@asynccontextmanager
async def start_stack(session: Session, tell: Callable[[str], None]) -> AsyncIterator[Stack]:
    """Run this project's embedded stack during the block. Raises StackClaimed, ProcessFailed."""
    attributes = {key.name: name_type(key) for key in names.SEARCH_ATTRIBUTES}
    hush_temporal()
    async with run_embedded_stack(session.settings, attributes, _QUEUES, report=tell) as stack:
        client = await connect_to_stack(stack)
        await create_nexus_endpoint(client, names.NEXUS_ENDPOINT, names.RUNS_QUEUE)
        yield stack


async def _run_until_stopped(session: Session, output: Output) -> None:
    runs = False
    _cancel_on_signal(output)
    output.say("Starting the embedded stack ...")
    try:
        async with start_stack(session, output.warn) as stack:
            _tell_where(stack, session, output, "The embedded stack is running. Press Ctrl-C to stop it.")
            runs = True
            await asyncio.Event().wait()
    except asyncio.CancelledError:
        if not runs:
            raise Interrupted from None
        output.say("The embedded stack has stopped.")
    except StackClaimed as error:
        stack_of_others = read_stack_file(session.settings.data_dir)
        if stack_of_others is None:
            output.answer({"status": "starting", "message": str(error)}, Text(str(error)))
        else:
            _tell_where(stack_of_others, session, output, str(error))


def _tell_where(stack: Stack, session: Session, output: Output, title: str) -> None:
    settings = session.settings
    provider = (
        f"simulator at {stack.provider_base_url} (OPENAI_API_KEY was not set: no money is spent)"
        if stack.provider_base_url
        else f"{settings.provider_name()}, live: runs cost money"
    )
    rows = [
        ("Web UI", stack.ui_url),
        ("Temporal", stack.temporal_address),
        ("HTTP API", stack.http_url or ""),
        ("Nexus", f"endpoint {names.NEXUS_ENDPOINT}, service {names.NEXUS_SERVICE}"),
        ("provider", provider),
        ("ledger", describe_location(parse_url(settings.ledger_url()))),
        ("pictures", settings.store_url()),
        ("logs", str((settings.data_dir / "logs").resolve())),
    ]
    document = {"status": "running", **stack.model_dump()}
    output.answer(document, describe_lines(f"✓ {title}", rows, style="bold green"))


def _cancel_on_signal(output: Output) -> None:
    """Cancel this task on the first signal, even while the stack still starts.

    A signal more than a second later ends the process at once; the stack's processes end with it. An earlier one is a duplicate
    from `make` or a supervisor and is ignored.
    """
    loop, task, first = asyncio.get_running_loop(), asyncio.current_task(), math.inf

    def on_signal(number: int, _frame: object) -> None:
        nonlocal first
        if time.monotonic() - first > _SAME_WISH_SECONDS:
            os._exit(128 + number)
        if first == math.inf and task:
            first = time.monotonic()
            loop.call_soon_threadsafe(task.cancel)
            with suppress(OSError):  # the terminal may be gone
                output.say("Stopping after in-flight calls finish. Press Ctrl-C again to stop now.")

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)


def name_type(key: SearchAttributeKey[Any]) -> str:
    """Return a search attribute's type as Temporal's command line calls it: Keyword, Double, Int."""
    return name_indexed_type(key.indexed_value_type.value)
