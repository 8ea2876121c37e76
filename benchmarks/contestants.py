"""Define how each contestant executes one run. Each is driven by its own process (`benchmarks.driver`).

`bare` is the engine's baseline, `full` our run, `plain` the SDK call without anything, and `dbos` the same three
steps on another engine (`benchmarks.dbos_run`).
"""

import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import openai
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from benchmarks.bare_workflow import QUEUE, BareRun
from gpt_image_runs.contracts import names

# Executes one run with a payload, to its end.
RunOne = Callable[[dict[str, Any]], Awaitable[None]]


@asynccontextmanager
async def open_bare() -> AsyncIterator[RunOne]:
    client = await _connect()

    async def run_one(_: dict[str, Any]) -> None:
        await client.execute_workflow(BareRun.run, "nothing", id=f"bare-{uuid.uuid4().hex}", task_queue=QUEUE)

    yield run_one


@asynccontextmanager
async def open_full() -> AsyncIterator[RunOne]:
    """Start runs as a backend does: by names and plain JSON."""
    client = await _connect()

    async def run_one(payload: dict[str, Any]) -> None:
        result = await client.execute_workflow(
            names.WORKFLOW,
            payload,
            id=names.run_id_for("default", f"bench-{uuid.uuid4().hex}"),
            task_queue=names.RUNS_QUEUE,
        )
        assert result["billing"]["state"] == "billed", result

    yield run_one


@asynccontextmanager
async def open_plain() -> AsyncIterator[RunOne]:
    async with open_sdk() as sdk:

        async def run_one(payload: dict[str, Any]) -> None:
            answer = await sdk.images.generate(**payload)
            assert answer.data

        yield run_one


@asynccontextmanager
async def open_sdk() -> AsyncIterator[openai.AsyncOpenAI]:
    """Open the SDK as documented, but without retries. Its URL and key are in the environment."""
    limits = httpx2.Limits(max_connections=None)
    async with openai.AsyncOpenAI(
        max_retries=0, http_client=httpx2.AsyncClient(timeout=600, limits=limits)
    ) as sdk:
        yield sdk


@asynccontextmanager
async def open_dbos_run() -> AsyncIterator[RunOne]:
    from benchmarks.dbos_run import open_dbos, run_on_dbos  # noqa: PLC0415 - it changes how SQLAlchemy connects

    async with open_sdk() as sdk, open_dbos(sdk):
        yield run_on_dbos


CONTESTANTS = {"bare": open_bare, "full": open_full, "plain": open_plain, "dbos": open_dbos_run}


async def _connect() -> Client:
    return await Client.connect(os.environ["TEMPORAL_ADDRESS"], data_converter=pydantic_data_converter)
