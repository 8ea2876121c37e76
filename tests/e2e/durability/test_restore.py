"""A ledger that is restored from an older copy: what it lacks is found, taken back, and not paid for again."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy import text
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowFailureError
from temporalio.exceptions import CancelledError

from activities.provider_call.ledger_watch import LedgerWatch
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.result import RunResult
from gpt_image_runs.settings import Settings
from simulator.server import Simulator
from tests.support.runs.commands import type_command
from tests.support.runs.economy_runs import make_requests, new_batch_id, run_batch, run_ids
from tests.support.runs.run_states import pending_failure, until
from tests.support.servers.forked_program import start_worker_program
from tests.support.servers.postgres_server import name_database, start_postgres_server
from tests.support.servers.s3_server import BUCKET, run_s3_server, s3_environment
from tests.support.servers.stack import CONTRACT, Stack, run_application, run_temporal, sqlite_url
from tests.support.servers.worker_site import WorkerProcess, kill

pytestmark = pytest.mark.asyncio(loop_scope="session")


@dataclass(frozen=True)
class Place:
    """A ledger that can be copied and put back while nobody has it open, and a store that stays."""

    ledger_url: str
    store_url: str
    copy: Callable[[], None]
    put_back: Callable[[], None]


@pytest_asyncio.fixture(loop_scope="session")
async def client() -> AsyncIterator[Client]:
    async with run_temporal() as running:
        yield running


@pytest.fixture
def files(tmp_path: Path) -> Place:
    """SQLite and a folder."""
    ledger, copy = tmp_path / "ledger.db", tmp_path / "copy.db"

    def make_copy() -> None:
        shutil.copy(ledger, copy)

    def put_back() -> None:
        for leftover in tmp_path.glob("ledger.db-*"):
            leftover.unlink()
        shutil.copy(copy, ledger)

    return Place(
        sqlite_url(tmp_path),
        (tmp_path / "images").as_uri(),
        make_copy,
        put_back,
    )


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """PostgreSQL and S3."""
    with start_postgres_server() as postgres, run_s3_server() as s3:
        for name, value in s3_environment(s3).items():
            monkeypatch.setenv(name, value)
        url = postgres.create_database()
        ledger = name_database(url)

        def put_back() -> None:
            postgres.drop_database(url)
            postgres.execute(f"CREATE DATABASE {ledger} TEMPLATE older")

        yield Place(
            url,
            f"s3://{BUCKET}/restored",
            lambda: postgres.execute(f"CREATE DATABASE older TEMPLATE {ledger}"),
            put_back,
        )


@pytest.fixture(params=["files", "servers"])
def place(request: pytest.FixtureRequest) -> Place:
    found: Place = request.getfixturevalue(request.param)
    return found


@asynccontextmanager
async def open_stack(client: Client, place: Place) -> AsyncIterator[Stack]:
    async with run_application(client, place.ledger_url, place.store_url) as stack:
        yield stack


async def buy(stack: Stack, numbers: range) -> dict[str, RunResult]:
    payload = {**CONTRACT, "quality": "low", "tenant": "acme"}
    run_ids = [names.run_id_for("acme", f"order-{number}") for number in numbers]
    results = await asyncio.gather(*(stack.run(payload, run_id=run_id) for run_id in run_ids))
    return dict(zip(run_ids, results, strict=True))


def refuse_entries(stack: Stack) -> None:
    with stack.database.writing() as connection:
        if stack.database.dialect == "sqlite":
            connection.execute(
                text(
                    "CREATE TRIGGER away BEFORE INSERT ON ledger_entries"
                    " BEGIN SELECT RAISE(ABORT, 'the ledger is away'); END"
                )
            )
        else:
            connection.execute(
                text(
                    "CREATE TRIGGER away BEFORE INSERT ON ledger_entries"
                    " FOR EACH ROW EXECUTE FUNCTION refuse_change('the ledger is away')"
                )
            )


async def start_unbilled(stack: Stack) -> str:
    """Start a run that is paid for and waits for its bill."""
    refuse_entries(stack)
    run_id = names.run_id_for("acme", "waiting")
    handle = await stack.start({**CONTRACT, "quality": "low", "tenant": "acme"}, run_id=run_id)

    async def waits() -> bool:
        return "the ledger is away" in await pending_failure(handle)

    await until(waits)
    return run_id


async def test_restored_ledger_is_found_recovered_and_not_paid_again(
    client: Client, place: Place, tmp_path: Path
) -> None:
    async with open_stack(client, place) as stack:
        await buy(stack, range(3))
    place.copy()
    async with open_stack(client, place) as stack:
        bought = await buy(stack, range(3, 6))
        await LedgerWatch(stack.database, stack.store).note_heads()
        waiting = await start_unbilled(stack)
    place.put_back()

    async with open_stack(client, place) as stack:

        async def has_lost_its_attempt() -> bool:
            return "there is no attempt" in await pending_failure(client.get_workflow_handle(waiting))

        await until(has_lost_its_attempt)
        verified = await type_command(stack, tmp_path, "verify", "--json")
        assert verified.status == 1
        (finding,) = verified.document["findings"]
        assert "4 attempts and 4 entries are missing since" in finding["what"]
        looked = await type_command(stack, tmp_path, "doctor", "--json")
        assert looked.status == 1
        (age,) = [check for check in looked.document["checks"] if check["name"] == "ledger's age"]
        assert "recover --from-store" in age["message"]

        # Without any recovery: the same request again finds what was paid.
        again = await buy(stack, range(3, 4))
        run_id = names.run_id_for("acme", "order-3")
        assert again[run_id].billing == bought[run_id].billing
        assert again[run_id].cost.flags == ("recovered",)

        recovered = await type_command(stack, tmp_path, "recover", "--from-store", "--actor", "ada", "--json")
        assert recovered.status == 0, recovered.err
        told = recovered.document
        assert (told["status"], told["problems"]) == ("ok", [])
        assert (told["recovered"]["attempts"], told["recovered"]["entries"]) == (3, 2)
        assert (
            RunResult.model_validate(await client.get_workflow_handle(waiting).result()).billing.state
            == "billed"
        )
        for run_id, result in bought.items():
            (entry,) = stack.entries(run_id)
            assert (entry.entry_id, entry.amount_usd) == (result.billing.entry_id, result.cost.amount_usd)
            assert "recovered" in entry.flags
        verified = await type_command(stack, tmp_path, "verify", "--json")
        assert (verified.status, verified.document["findings"]) == (0, [])
        assert verified.document["entries"] == 7
        repeated = await type_command(stack, tmp_path, "recover", "--from-store", "--json")
        assert repeated.document["recovered"] == {"attempts": 0, "entries": 0, "waiting": 0, "conflicts": 0}
        assert stack.simulator.books.entries == ()


async def lose_runs(client: Client, place: Place, numbers: range) -> dict[str, RunResult]:
    """Put an older ledger back, in which some runs are not."""
    async with open_stack(client, place):
        pass
    place.copy()
    async with open_stack(client, place) as stack:
        bought = await buy(stack, numbers)
    place.put_back()
    return bought


async def test_cancelled_run_ends_while_its_attempt_is_missing(client: Client, files: Place) -> None:
    async with open_stack(client, files):
        pass
    files.copy()
    async with open_stack(client, files) as stack:
        handle = client.get_workflow_handle(await start_unbilled(stack))
    files.put_back()

    async with open_stack(client, files):

        async def has_lost_its_attempt() -> bool:
            return "there is no attempt" in await pending_failure(handle)

        await until(has_lost_its_attempt)
        await handle.cancel()
        with pytest.raises(WorkflowFailureError) as raised:
            await handle.result()
        assert isinstance(raised.value.cause, CancelledError)
        assert (await handle.describe()).status is WorkflowExecutionStatus.CANCELED


async def test_runs_are_recovered_from_temporal_where_the_receipts_are_lost_too(
    client: Client, files: Place, tmp_path: Path
) -> None:
    bought = await lose_runs(client, files, range(2))
    shutil.rmtree(tmp_path / "images" / "documents" / "attempts")
    async with open_stack(client, files) as stack:
        looked = await type_command(stack, tmp_path, "doctor", "--json")
        (age,) = [check for check in looked.document["checks"] if check["name"] == "ledger's age"]
        assert "2 attempts and 2 entries are missing" in age["message"]
        recovered = await type_command(stack, tmp_path, "recover", "--from-store", "--json")
        assert (recovered.status, recovered.document["status"]) == (0, "ok"), recovered.err
        for run_id, result in bought.items():
            (entry,) = stack.entries(run_id)
            assert (entry.entry_id, entry.amount_usd) == (result.billing.entry_id, result.cost.amount_usd)
            assert (entry.provider_request_id, entry.usage) == (result.provider.request_id, result.usage)
        verified = await type_command(stack, tmp_path, "verify", "--json")
        assert (verified.status, verified.document["findings"]) == (0, [])


async def test_lines_of_an_economy_batch_are_recovered_and_not_paid_again(
    client: Client, files: Place, tmp_path: Path
) -> None:
    batch_id = new_batch_id()
    requests = make_requests(batch_id, ("A cup", "A plate"), metadata={"order": "4711"})
    async with open_stack(client, files):
        pass
    files.copy()
    async with open_stack(client, files) as stack:
        await run_batch(stack, requests, batch_id=batch_id)
        billed = {run_id: stack.entries(run_id) for run_id in run_ids(requests)}
    files.put_back()

    async with open_stack(client, files) as stack:
        await run_batch(stack, requests[:1], batch_id=new_batch_id())
        assert stack.simulator.books.entries == ()
        recovered = await type_command(stack, tmp_path, "recover", "--from-store", "--json")
        assert recovered.document["recovered"]["entries"] == 2, recovered.err
        for run_id, (before,) in billed.items():
            (entry,) = stack.entries(run_id)
            assert (entry.entry_id, entry.amount_usd) == (before.entry_id, before.amount_usd)
            assert (entry.metadata, entry.flags) == ({"order": "4711"}, ("batch_price", "recovered"))
        verified = await type_command(stack, tmp_path, "verify", "--json")
        assert (verified.status, verified.document["findings"]) == (0, [])


async def test_new_ledger_after_a_lost_one_does_not_pay_again(
    client: Client, files: Place, tmp_path: Path
) -> None:
    """A new ledger has another id; what the old one paid for is found by its run all the same."""
    async with open_stack(client, files) as stack:
        bought = await buy(stack, range(1))
    (tmp_path / "ledger.db").unlink()
    async with open_stack(client, files) as stack:
        again = await buy(stack, range(1))
        assert stack.simulator.books.entries == ()
    assert [result.images for result in again.values()] == [result.images for result in bought.values()]


@pytest.mark.parametrize("way", [("--from-store",), ("--accept-loss", "--reason", "a test")])
async def test_worker_on_an_older_ledger_sends_nothing_until_it_is_recovered(
    client: Client, files: Place, tmp_path: Path, way: tuple[str, ...]
) -> None:
    await lose_runs(client, files, range(1))
    async with AsyncExitStack() as parts:
        simulator = await parts.enter_async_context(Simulator())
        said = tmp_path / "worker.log"
        worker = await start_worker(client, files, simulator, said)
        parts.push_async_callback(kill, worker)
        run_id = names.run_id_for("acme", "new")
        payload = {**CONTRACT, "quality": "low", "tenant": "acme"}
        handle = await client.start_workflow(names.WORKFLOW, payload, id=run_id, task_queue=names.RUNS_QUEUE)

        async def waits_to_be_sent() -> bool:
            described = await handle.describe()
            pending = described.raw_description.pending_activities
            waits = [activity.activity_type.name for activity in pending] == [names.CALL_GPT_IMAGE]
            return waits and "ledger_behind" in said.read_text()

        await until(waits_to_be_sent)
        assert "1 attempt and 1 entry are missing" in said.read_text()
        assert not list(simulator.books.entries)
        stack = Stack(client, simulator, place_settings(files), None, None)  # type: ignore[arg-type]  # commands need no more
        settled = await type_command(stack, tmp_path, "recover", *way, "--json")
        assert settled.status == 0, settled.err
        RunResult.model_validate(await handle.result())
        (sent,) = simulator.books.entries
        assert str(sent.client_request_id).startswith(f"{run_id}:")
        verified = await type_command(stack, tmp_path, "verify", "--json")
        assert (verified.status, verified.document["findings"]) == (0, [])


def place_settings(place: Place) -> Settings:
    return Settings(database_url=place.ledger_url, image_store_url=place.store_url, provider="simulator")


async def start_worker(client: Client, place: Place, simulator: Simulator, said: Path) -> WorkerProcess:
    environment = {
        **os.environ,
        "TEMPORAL_ADDRESS": client.service_client.config.target_host,
        "DATABASE_URL": place.ledger_url,
        "IMAGE_STORE_URL": place.store_url,
        "OPENAI_API_KEY": "sk-test-0123456789abcdef",
        "OPENAI_BASE_URL": simulator.base_url,
        "PROVIDER": "simulator",
    }
    with said.open("ab") as log:
        return await start_worker_program((), environment, log)
