import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from temporalio import activity
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from gpt_image_runs.local_stack.temporal_server import find_temporal_binary
from gpt_image_runs.temporal.worker_identity import (
    LedgersDiffer,
    WorkerIdentity,
    format_identity,
    list_live_workers,
    parse_identity,
    refuse_other_ledger,
    shorten_id,
)

LEDGER, OTHER_LEDGER = "ldg_" + "0123456789abcdef" * 2, "ldg_" + "fedcba9876543210" * 2
STORE = "ab" * 16


@activity.defn
async def do_nothing() -> None:
    """Make a queue of activities that is polled."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def address() -> AsyncIterator[str]:
    binary = str(find_temporal_binary())
    async with await WorkflowEnvironment.start_local(dev_server_existing_path=binary) as server:
        yield server.client.service_client.config.target_host


async def make_worker(address: str, identity: str, queue: str) -> Worker:
    client = await Client.connect(address, identity=identity)
    return Worker(client, task_queue=queue, activities=[do_nothing])


async def until_listed(client: Client, queue: str, count: int) -> list[WorkerIdentity]:
    async with asyncio.timeout(30):
        while len(found := await list_live_workers(client, [queue])) < count:
            await asyncio.sleep(0.05)
    return found


def test_identity_is_read_back() -> None:
    identity = format_identity(LEDGER, STORE)
    found = parse_identity(identity)

    assert found.process
    assert identity == f"{found.process} ledger:0123456789ab store:abababababab"
    assert (found.ledger, found.store) == ("0123456789ab", "abababababab")


def test_identity_without_a_store_is_read_back() -> None:
    found = parse_identity(format_identity(LEDGER, None))
    assert (found.ledger, found.store) == ("0123456789ab", None)


@pytest.mark.parametrize("text", ["", "4711@host", "my worker", "a ledger:xyz", "a ledger:0123456789abcd"])
def test_identity_of_another_program_names_no_ledger(text: str) -> None:
    found = parse_identity(text)
    assert (found.ledger, found.store) == (None, None)


def test_identity_of_another_program_is_shown_without_control_characters() -> None:
    assert "\x1b" not in parse_identity("\x1b[2J@host ledger:0123456789ab").process
    assert "\x1b" not in parse_identity("\x1b[2J@host and more").process


@pytest.mark.parametrize("text", ["", "a mark of another kind", "0123456789a"])
def test_id_of_another_form_is_shortened_by_its_hash(text: str) -> None:
    assert parse_identity(f"1@h ledger:{shorten_id(text)}").ledger == shorten_id(text)


@pytest.mark.asyncio(loop_scope="module")
async def test_worker_that_has_ended_is_not_listed(address: str) -> None:
    client, queue = await Client.connect(address), "ends"
    first = await make_worker(address, "1@h ledger:0123456789ab", queue)
    second = await make_worker(address, "2@h ledger:fedcba987654", queue)
    async with second:
        async with first:
            both = await until_listed(client, queue, 2)
        assert [worker.ledger for worker in both] == ["0123456789ab", "fedcba987654"]
        assert [worker.ledger for worker in await list_live_workers(client, [queue])] == ["fedcba987654"]
    assert await list_live_workers(client, [queue]) == []


@pytest.mark.asyncio(loop_scope="module")
async def test_worker_with_another_ledger_is_refused(address: str) -> None:
    client, queue = await Client.connect(address), "refuses"
    async with await make_worker(address, format_identity(LEDGER, STORE), queue):
        await until_listed(client, queue, 1)
        await refuse_other_ledger(client, [queue], format_identity(LEDGER, None))
        with pytest.raises(LedgersDiffer, match=r"ledger fedcba987654, and .* has the ledger 0123456789ab"):
            await refuse_other_ledger(client, [queue], format_identity(OTHER_LEDGER, STORE))


@pytest.mark.asyncio(loop_scope="module")
async def test_worker_of_an_older_version_is_accepted(address: str) -> None:
    client, queue = await Client.connect(address), "older"
    async with await make_worker(address, "4711@host", queue):
        await until_listed(client, queue, 1)
        await refuse_other_ledger(client, [queue], format_identity(LEDGER, STORE))
