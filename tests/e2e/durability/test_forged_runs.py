"""Executions that a stranger writes into the namespace: they stop no worker, and a recovery takes nothing from them."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.common import SearchAttributePair, TypedSearchAttributes
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from activities.provider_call.ledger_watch import LedgerWatch
from cli.local.doctor import Check, check_everything
from cli.output import Output
from cli.recover.from_store import recover_from_store
from cli.session import Session
from gpt_image_runs.billing.attempts.attempts import AttemptLog
from gpt_image_runs.billing.attempts.call_terms import CallTerms
from gpt_image_runs.billing.pricing.rate_cards import RateCards
from gpt_image_runs.billing.records import AttemptOutcome
from gpt_image_runs.billing.recovery.notes import read_ledger_now
from gpt_image_runs.billing.recovery.receipts import build_receipt, write_attempt_receipt
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.calls import CallInput, CallResult
from gpt_image_runs.contracts.request import ImageRequest
from gpt_image_runs.database.engine import Database
from gpt_image_runs.database.open import open_database
from gpt_image_runs.images.store import ImageStore
from gpt_image_runs.provider.catalog import Catalog
from gpt_image_runs.settings import Settings
from gpt_image_runs.temporal.worker_identity import format_identity
from tests.support.files.picture_files import png_of_size
from tests.support.ledger.ledger_examples import (
    SUCCEEDED,
    begin_attempt,
    describe_attempt,
    identify,
    pay_attempt,
)
from tests.support.servers.stack import CONTRACT, run_temporal, sqlite_url

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATIENCE_SECONDS = 60
TERMS = CallTerms(Catalog.load("openai"), RateCards.load(), "hold")


@dataclass(frozen=True)
class Forgery:
    """What a stranger writes. Without changes it is what our own workers would have written."""

    order: dict[str, Any]
    result: dict[str, Any]
    workflow_id: str
    runs_queue: str = names.RUNS_QUEUE
    provider_queue: str = names.PROVIDER_QUEUE
    is_completed_from_elsewhere: bool = False


@workflow.defn(name=names.WORKFLOW)
class StrangersRun:
    @workflow.run
    async def run(self, forgery: dict[str, Any]) -> dict[str, Any]:
        await workflow.execute_activity(
            names.CALL_GPT_IMAGE,
            args=[forgery["order"]],
            task_queue=forgery["provider_queue"],
            start_to_close_timeout=timedelta(minutes=1),
        )
        return {"forged": True}


class StrangersCalls:
    """Answer with what was invented, by the attempt's run."""

    def __init__(self, client: Client, forgeries: Sequence[Forgery]) -> None:
        self._client = client
        self._forgeries = {forgery.order["run_id"]: forgery for forgery in forgeries}

    @activity.defn(name=names.CALL_GPT_IMAGE)
    async def call(self, order: dict[str, Any]) -> dict[str, Any]:
        forgery = self._forgeries[order["run_id"]]
        if forgery.is_completed_from_elsewhere:
            info = activity.info()
            handle = self._client.get_async_activity_handle(
                workflow_id=info.workflow_id or "",
                run_id=info.workflow_run_id,
                activity_id=info.activity_id,
            )
            await handle.complete(forgery.result)
            activity.raise_complete_async()
        return forgery.result


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client() -> AsyncIterator[Client]:
    async with run_temporal() as running:
        yield running


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore.from_url((tmp_path / "images").as_uri())


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Database]:
    """Open a ledger that has sent something itself: it answers for its own runs only."""
    opened = open_database(sqlite_url(tmp_path), create=True)
    begin_attempt(opened, identify("acme", "own"))
    yield opened
    opened.close()


@pytest.fixture
def session(client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    monkeypatch.setenv("TEMPORAL_ADDRESS", client.service_client.config.target_host)
    settings = Settings(
        database_url=sqlite_url(tmp_path),
        image_store_url=(tmp_path / "images").as_uri(),
        data_dir=tmp_path / "data",
        provider="openai",
    )
    return Session(settings, None)


def forge() -> Forgery:
    """Write down a run of our own as it would be in Temporal."""
    request_id = f"req-{uuid.uuid4().hex}"
    run_id = names.run_id_for("acme", request_id)
    request = ImageRequest.model_validate({**CONTRACT, "tenant": "acme", "request_id": request_id})
    order = CallInput(
        run_id=run_id,
        tenant="acme",
        request_id=request_id,
        request=request,
        model="gpt-image-1",
        fingerprint="",
    )
    order = order.model_copy(update={"fingerprint": TERMS.identify(order, run_id).fingerprint})
    result = CallResult(
        attempt_id=f"att_{uuid.uuid4().hex}",
        attempts=1,
        model="gpt-image-1",
        provider="openai",
        operation="generate",
        images=(),
        usage={"input_tokens": 50, "output_tokens": 4160},
        sent_at=datetime.now(UTC),
    )
    return Forgery(order.model_dump(mode="json"), result.model_dump(mode="json"), run_id)


async def complete(client: Client, identity: str, *forgeries: Forgery) -> None:
    """Carry out forgeries by workers of the stranger's, under an identity of the stranger's choice."""
    calls = StrangersCalls(client, forgeries).call
    async with AsyncExitStack() as workers:
        for queue in {queue for each in forgeries for queue in (each.runs_queue, each.provider_queue)}:
            worker = Worker(
                client,
                task_queue=queue,
                workflows=[StrangersRun],
                activities=[calls],
                identity=identity,
                workflow_runner=UnsandboxedWorkflowRunner(),
            )
            await workers.enter_async_context(worker)
        await asyncio.gather(*(carry_out(client, forgery) for forgery in forgeries))
    for forgery in forgeries:
        await wait_until_listed(client, forgery.workflow_id)


async def carry_out(client: Client, forgery: Forgery) -> None:
    await client.execute_workflow(
        names.WORKFLOW,
        {"order": forgery.order, "provider_queue": forgery.provider_queue},
        id=forgery.workflow_id,
        task_queue=forgery.runs_queue,
        search_attributes=TypedSearchAttributes([SearchAttributePair(names.BILLING_STATE, "billed")]),
    )


async def wait_until_listed(client: Client, workflow_id: str) -> None:
    query = f"WorkflowId = '{workflow_id}' AND ExecutionStatus = 'Completed'"
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not (await client.count_workflows(query)).count:
            await asyncio.sleep(0.05)


def name_ledger(ledger: Database) -> str:
    """Build the identity of one of our workers, which Temporal shows to everybody."""
    return format_identity(read_ledger_now(ledger).ledger_id, None)


async def find_age(session: Session) -> Check:
    (age,) = [check for check in await check_everything(session) if check.name == "ledger's age"]
    return age


async def start_spending(ledger: Database, store: ImageStore, client: Client) -> None:
    """Let a worker that starts on this ledger look once. Raises LedgerBehind where it would wait."""
    watch = LedgerWatch(ledger, store, client)
    waiting = asyncio.create_task(watch.wait_until_whole())
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not waiting.done():
                watch.refuse_behind()
                await asyncio.sleep(0.05)
        await waiting
    finally:
        waiting.cancel()


async def recover(session: Session, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    await recover_from_store(session, Output(as_json=True), "ada", ask_temporal=True)
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def tell_why(told: list[str], forgery: Forgery) -> str:
    (own,) = [sentence for sentence in told if forgery.workflow_id in sentence]
    return own


CLUMSY: list[tuple[Callable[[Forgery], Forgery], str]] = [
    (
        lambda forged: replace(forged, runs_queue="strangers"),
        "it runs on the task queue 'strangers'",
    ),
    (
        lambda forged: replace(forged, provider_queue="strangers"),
        "its call was made on the task queue 'strangers'",
    ),
    (
        lambda forged: replace(forged, workflow_id=f"mine-{uuid.uuid4().hex}"),
        "its request belongs to the run 'image:acme:req-",
    ),
    (
        lambda forged: replace(forged, result={"attempt_id": 1}),
        "its CallResult cannot be read",
    ),
    (
        lambda forged: replace(forged, is_completed_from_elsewhere=True),
        "and completed by",
    ),
]


async def test_forged_executions_stop_no_worker_and_are_not_taken_back(
    client: Client, ledger: Database, session: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    forged = [(change(forge()), why) for change, why in CLUMSY]
    await complete(client, name_ledger(ledger), *(forgery for forgery, _ in forged))

    await start_spending(ledger, session.open_store(), client)
    age = await find_age(session)
    assert age.ok
    told = await recover(session, capsys)
    assert (told["status"], told["recovered"]["attempts"], told["recovered"]["entries"]) == ("ok", 0, 0)
    for forgery, why in forged:
        assert forgery.workflow_id in age.message
        assert why in age.message
        assert why in tell_why(told["problems"], forgery)
        assert AttemptLog(ledger).list_attempts(str(forgery.order["run_id"])) == ()


@pytest.mark.parametrize("identity", ["4711@evil", "4711@evil ledger:0123456789ab"])
async def test_execution_of_workers_without_this_ledger_counts_for_nothing(
    identity: str, client: Client, ledger: Database, session: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    forgery = forge()
    await complete(client, identity, forgery)
    await start_spending(ledger, session.open_store(), client)
    age = await find_age(session)
    assert age.ok
    told = await recover(session, capsys)
    assert told["recovered"]["attempts"] == 0
    assert "its workers' identities name as their ledger" in tell_why(told["problems"], forgery)


async def test_execution_from_before_later_receipts_is_no_loss(
    client: Client, ledger: Database, store: ImageStore, session: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    """The store's receipts are the better witness: also against a history that fits in every part."""
    forgery = forge()
    await complete(client, name_ledger(ledger), forgery)
    before = await find_age(session)
    assert not before.ok
    assert "1 attempt and 1 entry are missing" in before.message

    later, log = identify("acme", "later"), AttemptLog(ledger)
    log.claim_run(later)
    new = replace(describe_attempt(later.run_id), sent_at=datetime.now(UTC) + timedelta(seconds=1))
    attempt = log.begin(new)
    outcome = replace(SUCCEEDED, finished_at=new.sent_at)
    log.finish(attempt.attempt_id, outcome)
    ledger_id = read_ledger_now(ledger).ledger_id
    await write_attempt_receipt(store, build_receipt(ledger_id, later, attempt, outcome, None))

    await start_spending(ledger, store, client)
    after = await find_age(session)
    assert after.ok
    assert forgery.workflow_id in after.message
    told = await recover(session, capsys)
    assert told["recovered"]["attempts"] == 0
    assert "were in use after it" in tell_why(told["problems"], forgery)


INVENTED: list[tuple[Callable[[Forgery], Forgery], str]] = [
    (
        lambda forged: replace(forged, order={**forged.order, "fingerprint": "a1" * 32}),
        "its fingerprint 'a1a1a1a1a1a1' is not that of its request",
    ),
    (
        lambda forged: replace(forged, order={**forged.order, "tenant": "beta"}),
        "tenant is 'beta'; allowed: what the request itself says: acme",
    ),
    (
        lambda forged: replace(forged, result={**forged.result, "model": "gpt-image-1-mini"}),
        "model is 'gpt-image-1-mini'; allowed: the request's own model",
    ),
    (
        lambda forged: replace(forged, result={**forged.result, "provider": "simulator"}),
        "its provider is 'simulator'",
    ),
    (
        lambda forged: replace(forged, result={**forged.result, "attempt_id": "../1"}),
        "has not the form that our workers give to attempt_id",
    ),
]


async def test_what_a_request_does_not_say_is_refused_by_name(
    client: Client, ledger: Database, session: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    forged = [(change(forge()), why) for change, why in INVENTED]
    await complete(client, name_ledger(ledger), *(forgery for forgery, _ in forged))
    told = await recover(session, capsys)
    assert told["recovered"]["attempts"] == 0
    for forgery, why in forged:
        assert why in tell_why(told["problems"], forgery)


async def test_recovered_ceiling_and_price_are_made_from_the_request(
    client: Client, ledger: Database, session: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    genuine = forge()
    run = replace(genuine, order={**genuine.order, "price_ceiling_usd": "0.000000"})
    await complete(client, name_ledger(ledger), run)
    told = await recover(session, capsys)
    assert (told["recovered"]["attempts"], told["recovered"]["entries"]) == (1, 1)
    (attempt,) = AttemptLog(ledger).list_attempts(run.workflow_id)
    order = CallInput.model_validate(run.order)
    assert attempt.reserved_micro_usd == TERMS.find_ceiling(order, attempt.sent_at) != 0


async def test_attempt_of_another_run_is_not_settled_by_a_history(
    client: Client, ledger: Database, session: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    victim = begin_attempt(ledger, identify("acme", "victim"))
    genuine = forge()
    forgery = replace(genuine, result={**genuine.result, "attempt_id": victim.attempt_id})
    await complete(client, name_ledger(ledger), forgery)
    told = await recover(session, capsys)
    assert f"Attempt {victim.attempt_id!r} belongs to run 'image:acme:victim'" in tell_why(
        told["problems"], forgery
    )
    (left,) = AttemptLog(ledger).list_attempts(victim.run_id)
    assert left.outcome == "unknown"


async def test_pictures_of_another_tenant_are_not_taken_back(
    client: Client,
    ledger: Database,
    store: ImageStore,
    session: Session,
    capsys: pytest.CaptureFixture[str],
) -> None:
    image = await store.put_image(png_of_size(1, 1), owner="beta")
    genuine = forge()
    forgery = replace(genuine, result={**genuine.result, "images": [image.model_dump(mode="json")]})
    await complete(client, name_ledger(ledger), forgery)
    told = await recover(session, capsys)
    assert "is not one of the tenant acme" in tell_why(told["problems"], forgery)


async def test_receipt_that_says_otherwise_counts_and_not_the_history(
    client: Client, ledger: Database, store: ImageStore, session: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    forgery = forge()
    run = identify("acme", str(forgery.order["request_id"]))
    attempt = replace(begin_attempt(ledger, run), attempt_id=str(forgery.result["attempt_id"]))
    outcome = AttemptOutcome(outcome="unknown", finished_at=datetime.now(UTC))
    ledger_id = read_ledger_now(ledger).ledger_id
    await complete(client, name_ledger(ledger), forgery)
    await write_attempt_receipt(store, build_receipt(ledger_id, run, attempt, outcome, None))
    told = await recover(session, capsys)
    assert any(
        "has its attempt as 'unknown', and it says that it was paid" in why for why in told["problems"]
    )
    assert {attempt.outcome for attempt in AttemptLog(ledger).list_attempts(run.run_id)} == {"unknown"}


async def test_strangers_workflow_under_the_same_id_keeps_no_bill_waiting(
    client: Client,
    ledger: Database,
    store: ImageStore,
    session: Session,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = identify("acme", f"req-{uuid.uuid4().hex}")
    attempt = begin_attempt(ledger, run)
    ledger_id = read_ledger_now(ledger).ledger_id
    await write_attempt_receipt(store, build_receipt(ledger_id, run, attempt, SUCCEEDED, None))
    handle = await client.start_workflow(names.WORKFLOW, id=run.run_id, task_queue="nobody-polls-this")
    told = await recover(session, capsys)
    await handle.terminate()
    assert (told["recovered"]["entries"], told["recovered"]["waiting"]) == (1, 0)


async def test_run_under_a_workflow_id_of_its_own_is_no_doubt_once_it_is_in_the_ledger(
    client: Client, ledger: Database, session: Session
) -> None:
    genuine = forge()
    run = replace(genuine, workflow_id=f"mine-{uuid.uuid4().hex}")
    pay_attempt(ledger, identify("acme", str(genuine.order["request_id"])))
    await complete(client, name_ledger(ledger), run)
    assert run.workflow_id not in (await find_age(session)).message
