"""When a part is sent, and when it is not: too late, with a ledger that is behind, or where its batch may be there already."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.economy.documents import EconomyDocuments, PlannedLine
from activities.economy.send import TOO_LATE, EconomySender, _check_time_left
from gpt_image_runs.batches.economy import EconomyAttempts
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.economy import EconomyBatchRef, EconomyPlan, PartOrder, PlannedPart
from gpt_image_runs.database.engine import Database
from gpt_image_runs.database.errors import LedgerBehind
from gpt_image_runs.database.open import open_database
from gpt_image_runs.images.input_memory import ByteBudget
from gpt_image_runs.images.ownership import PictureOwners
from gpt_image_runs.images.store import ImageStore
from gpt_image_runs.provider.batch_api import open_batch_client
from gpt_image_runs.provider.sdk import ProviderSettings
from simulator.batches.faults import BatchFaultKind
from simulator.server import Simulator
from tests.support.ledger.ledger_examples import IDENTITY, describe_attempt
from tests.support.runs.economy_runs import LINE, write_pages


@pytest.mark.parametrize("skew", [timedelta(), timedelta(days=1), timedelta(days=-1)], ids=str)
async def test_creation_is_refused_by_the_time_that_passed_here(skew: timedelta) -> None:
    """A server whose clock is a day apart neither keeps a batch from being created nor lets it be created too late."""
    environment = ActivityEnvironment()
    environment.info = replace(
        environment.info,
        started_time=datetime.now(UTC) + skew,
        start_to_close_timeout=timedelta(minutes=10),
    )

    environment.run(_check_time_left, 500.0)
    with pytest.raises(ApplicationError) as refused:
        environment.run(_check_time_left, 560.0)

    assert refused.value.type == TOO_LATE


async def claim_part(database: Database, store: ImageStore) -> PartOrder:
    """A part of one line that is planned and claimed, and not sent yet."""
    request = {**LINE, "prompt": "A cup", "tenant": "acme", "request_id": "req-1"}
    pages = await write_pages(store, "summer", [request])
    part = PlannedPart(number=0, endpoint="/v1/images/generations", model=LINE["model"], lines=1)
    order = PartOrder(batch=EconomyBatchRef(batch_id="summer", digest=pages.digest, round=1), part=part)
    run = replace(IDENTITY, workflow_id=names.economy_workflow_id("summer"))
    new = replace(describe_attempt(), batch_part=order.batch.part_mark(0))
    line = PlannedLine(
        line=1,
        page=0,
        run_id=run.run_id,
        tenant=run.tenant,
        request_id=run.request_id,
        fingerprint=run.fingerprint,
        operation="generate",
        requested_model=run.requested_model,
        missing_usage="hold",
        options={},
        attempt_id=EconomyAttempts(database).claim(run, new, resends=0).attempt.attempt_id,
    )
    documents = EconomyDocuments(store, order.batch)
    await documents.write_claims(0, [line], [])
    await documents.write_plan(EconomyPlan(round=1, parts=(part,), refused=0))
    return order


@asynccontextmanager
async def open_sender(
    simulator: Simulator,
    database: Database,
    store: ImageStore,
    *,
    key: str = "sk-test-0123456789",
    refuse_behind: Callable[[], None] | None = None,
) -> AsyncIterator[EconomySender]:
    async with open_batch_client(ProviderSettings(api_key=key, base_url=simulator.base_url)) as client:
        yield EconomySender(
            client,
            store,
            EconomyAttempts(database),
            PictureOwners(store),
            input_memory=ByteBudget(1024 * 1024),
            refuse_behind=refuse_behind,
        )


def environment() -> ActivityEnvironment:
    made = ActivityEnvironment()
    made.info = replace(made.info, start_to_close_timeout=timedelta(hours=2))
    return made


@pytest.fixture
def ledger(tmp_path: Path) -> Database:
    return open_database(f"sqlite:///{tmp_path / 'ledger.db'}", create=True)


async def test_part_is_not_sent_while_the_ledger_is_behind(ledger: Database, local_store: ImageStore) -> None:
    def refuse() -> None:
        raise LedgerBehind("2 attempts are missing. Nothing was sent.")

    async with Simulator() as simulator:
        order = await claim_part(ledger, local_store)
        async with open_sender(simulator, ledger, local_store, refuse_behind=refuse) as sender:
            with pytest.raises(ApplicationError, match="Nothing was sent") as refused:
                await environment().run(sender.send_economy_part, order)
        assert (refused.value.type, refused.value.non_retryable) == ("LedgerBehind", False)
        assert (list(simulator.batches.file_store.files), simulator.batches.all) == ([], ())
        # A batch that is there already is found all the same: it is paid, and has to be followed.
        async with open_sender(simulator, ledger, local_store) as sender:
            sent = await environment().run(sender.send_economy_part, order)
        async with open_sender(simulator, ledger, local_store, refuse_behind=refuse) as sender:
            assert await environment().run(sender.send_economy_part, order) == sent


async def test_refused_look_is_no_refusal_of_a_batch_that_may_be_there(
    ledger: Database, local_store: ImageStore
) -> None:
    """The reply to the creation was lost, and then the key is refused: the part was not refused, and is looked for again."""
    async with Simulator() as simulator:
        order = await claim_part(ledger, local_store)
        simulator.batches.script(BatchFaultKind.CREATE_REPLY_LOST)
        async with open_sender(simulator, ledger, local_store) as sender:
            with pytest.raises(ApplicationError, match="searches for the batch before it creates one"):
                await environment().run(sender.send_economy_part, order)
        async with open_sender(simulator, ledger, local_store, key="sk-invalid-0123456789") as sender:
            with pytest.raises(ApplicationError) as refused:
                await environment().run(sender.send_economy_part, order)
        assert (refused.value.type, refused.value.non_retryable) == ("AuthenticationFailed", False)
        assert await EconomyDocuments(local_store, order.batch).find_refusal(0) is None
        async with open_sender(simulator, ledger, local_store) as sender:
            sent = await environment().run(sender.send_economy_part, order)
        assert [batch.batch_id for batch in simulator.batches.all] == [sent.provider_batch_id]


async def test_refusal_is_noted_until_a_batch_may_be_there(ledger: Database, local_store: ImageStore) -> None:
    """By the note the part's lines end as rejected; a later attempt that sends them takes it back first."""
    async with Simulator() as simulator:
        order = await claim_part(ledger, local_store)
        documents = EconomyDocuments(local_store, order.batch)
        async with open_sender(simulator, ledger, local_store, key="sk-invalid-0123456789") as sender:
            refused = await environment().run(sender.send_economy_part, order)
        assert refused.reason is not None
        assert await documents.find_refusal(0) == refused.reason
        async with open_sender(simulator, ledger, local_store) as sender:
            await environment().run(sender.send_economy_part, order)
        assert await documents.find_refusal(0) is None
