"""A ledger that is restored from an older copy: what it lacks is found, taken back, and not paid for again."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy import text
from temporalio.client import Client

from activities.ledger_watch import LedgerWatch
from contracts import names
from contracts.result import RunResult
from tests.billing.postgres_server import name_database, start_postgres_server
from tests.e2e.commands import type_command
from tests.e2e.stack import CONTRACT, Stack, run_application, run_temporal, sqlite_url
from tests.e2e.test_outages import pending_failure, until
from tests.s3_server import BUCKET, run_s3_server, s3_environment

pytestmark = pytest.mark.asyncio(loop_scope="session")


@dataclass(frozen=True)
class Place:
    """A ledger that can be copied and put back while nobody has it open, and a store that stays."""

    ledger_url: str
    store_url: str
    copy: Callable[[], None]
    put_back: Callable[[], None]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
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
        await buy(stack, range(12))
    place.copy()
    async with open_stack(client, place) as stack:
        bought = await buy(stack, range(12, 15))
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
        again = await buy(stack, range(12, 13))
        run_id = names.run_id_for("acme", "order-12")
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
        assert verified.document["entries"] == 16
        repeated = await type_command(stack, tmp_path, "recover", "--from-store", "--json")
        assert repeated.document["recovered"] == {"attempts": 0, "entries": 0, "waiting": 0, "conflicts": 0}
        assert stack.simulator.books.entries == ()
