"""The whole application for tests: a real Temporal server, the simulator behind real HTTP, a real ledger and store."""

import asyncio
import json
import sysconfig
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType, IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment

from activities.registry import build_notify_worker, build_provider_worker, build_runs_worker
from gpt_image_runs.billing.attempts.attempts import AttemptLog
from gpt_image_runs.billing.records import Attempt
from gpt_image_runs.billing.reports.entries import EntryView, list_entries
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.result import RunResult
from gpt_image_runs.database.engine import Database
from gpt_image_runs.database.open import open_database
from gpt_image_runs.images.store import ImageStore
from gpt_image_runs.local_stack.temporal_server import dynamic_config_arguments, find_temporal_binary
from gpt_image_runs.settings import Settings
from gpt_image_runs.temporal.connection import DATA_CONVERTER
from gpt_image_runs.temporal.rate_limits import hold_limit
from simulator.request_log import BookEntry
from simulator.server import Simulator

# The payload of the provider's documentation.
CONTRACT = {
    "model": "gpt-image-1",
    "prompt": "Create a premium product hero shot on a neutral studio background",
    "n": 1,
    "size": "1024x1024",
    "quality": "high",
    "background": "auto",
    "output_format": "png",
}


@dataclass(frozen=True)
class Stack:
    """One application under test, and what an outsider needs to see into it."""

    client: Client
    simulator: Simulator
    settings: Settings
    database: Database
    store: ImageStore

    async def start(self, payload: Any, *, run_id: str | None = None) -> WorkflowHandle[Any, Any]:
        """Start a run as any other language would: by names and plain JSON."""
        return await self.client.start_workflow(
            names.WORKFLOW, payload, id=run_id or new_run_id(), task_queue=names.RUNS_QUEUE
        )

    async def run(self, payload: Any, *, run_id: str | None = None) -> RunResult:
        """Run a request to its result."""
        handle = await self.start(payload, run_id=run_id)
        return RunResult.model_validate(await handle.result())

    async def fail(self, payload: Any, *, run_id: str | None = None) -> ApplicationError:
        """Run a request that must fail, and return its error."""
        handle = await self.start(payload, run_id=run_id)
        with pytest.raises(WorkflowFailureError) as raised:
            await handle.result()
        cause = raised.value.cause
        assert isinstance(cause, ApplicationError), cause
        return cause

    def entries(self, run_id: str) -> tuple[EntryView, ...]:
        """List a run's ledger entries, oldest first."""
        return tuple(reversed(list_entries(self.database, run_id=run_id)))

    def attempts(self, run_id: str) -> tuple[Attempt, ...]:
        """List a run's attempts, as the ledger knows them."""
        return AttemptLog(self.database).list_attempts(run_id)

    def calls(self, run_id: str) -> list[BookEntry]:
        """List a run's requests, as the provider knows them."""
        return [
            entry
            for entry in self.simulator.books.entries
            if entry.client_request_id and entry.client_request_id.startswith(f"{run_id}:")
        ]

    async def events(self, run_id: str) -> list[Any]:
        """Fetch a run's history events."""
        history = await self.client.get_workflow_handle(run_id).fetch_history()
        return list(history.events)


def new_run_id(tenant: str = "default") -> str:
    """Make a run id that no test has used."""
    return names.run_id_for(tenant, f"test-{uuid.uuid4().hex}")


def event_names(events: list[Any]) -> list[str]:
    """Name the kinds of events."""
    return [EventType.Name(event.event_type).removeprefix("EVENT_TYPE_") for event in events]


def activities_in(events: list[Any]) -> list[tuple[str, str]]:
    """List a history's activities in order, each "local" or "scheduled"."""
    return [
        found
        for event in events
        if (found := _scheduled_activity(event) or _local_activity(event)) is not None
    ]


def _scheduled_activity(event: Any) -> tuple[str, str] | None:
    if not event.HasField("activity_task_scheduled_event_attributes"):
        return None
    return event.activity_task_scheduled_event_attributes.activity_type.name, "scheduled"


def _local_activity(event: Any) -> tuple[str, str] | None:
    """Parse a local activity from its marker."""
    marker = event.marker_recorded_event_attributes
    if marker.marker_name != "core_local_activity":
        return None
    (told,) = marker.details["data"].payloads
    return json.loads(told.data)["activity_type"], "local"


@asynccontextmanager
async def run_temporal() -> AsyncIterator[Client]:
    """Run a real server in memory."""
    async with await WorkflowEnvironment.start_local(
        data_converter=DATA_CONVERTER,
        dev_server_existing_path=str(find_temporal_binary()),
        dev_server_extra_args=dynamic_config_arguments(),
        search_attributes=list(names.SEARCH_ATTRIBUTES),
    ) as environment:
        yield environment.client


@asynccontextmanager
async def skipping_time() -> AsyncIterator[WorkflowEnvironment]:
    """Run a server whose clock runs ahead whenever everybody only waits."""
    binary = Path(sysconfig.get_path("scripts")) / "temporal-test-server"
    async with await WorkflowEnvironment.start_time_skipping(
        data_converter=pydantic_data_converter, test_server_existing_path=str(binary)
    ) as environment:
        client = environment.client
        kinds = {
            key.name: IndexedValueType.ValueType(key.indexed_value_type.value)
            for key in names.SEARCH_ATTRIBUTES
        }
        await client.operator_service.add_search_attributes(
            AddSearchAttributesRequest(namespace=client.namespace, search_attributes=kinds)
        )
        yield environment


@asynccontextmanager
async def run_stack(database_url: str, store_url: str, **settings: Any) -> AsyncIterator[Stack]:
    """Run server, workers and provider in this process, wired by the worker's own functions."""
    async with (
        run_temporal() as client,
        run_application(client, database_url, store_url, **settings) as stack,
    ):
        yield stack


@asynccontextmanager
async def run_application(
    client: Client, database_url: str, store_url: str, *, provider_limit: int | None = None, **settings: Any
) -> AsyncIterator[Stack]:
    """Run workers and provider on a running Temporal server; `provider_limit` is in images per minute."""
    async with AsyncExitStack() as parts:
        simulator = await parts.enter_async_context(Simulator(images_per_minute=provider_limit))
        chosen = Settings(
            **{
                "database_url": database_url,
                "image_store_url": store_url,
                "openai_api_key": "sk-test-0123456789abcdef",
                "openai_base_url": simulator.base_url,
                "provider": "simulator",
                **settings,
            }
        )
        database = await asyncio.to_thread(open_database, database_url, create=True)
        parts.callback(database.close)
        limit = await hold_limit(client, names.PROVIDER_QUEUE, chosen.images_per_minute)
        await parts.enter_async_context(build_runs_worker(client, chosen, database, images_per_minute=limit))
        if chosen.notify_hosts:
            await parts.enter_async_context(build_notify_worker(client, chosen))
        await parts.enter_async_context(await build_provider_worker(client, chosen, database, parts))
        yield Stack(client, simulator, chosen, database, ImageStore.from_url(store_url))


def sqlite_url(folder: Path) -> str:
    """Return the URL of a ledger in a file."""
    return f"sqlite:///{folder / 'ledger.db'}"
