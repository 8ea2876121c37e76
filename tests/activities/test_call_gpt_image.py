"""Single attempts of the call on a real ledger and store, for what needs exact timing."""

import asyncio
import base64
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from sqlalchemy import text
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.call_gpt_image import GptImageCaller
from activities.errors import INPUT_MEMORY_FULL
from gpt_image_runs.billing.attempts.attempts import AttemptLog
from gpt_image_runs.billing.attempts.call_terms import CallTerms
from gpt_image_runs.billing.attempts.runs import RunIdentity
from gpt_image_runs.billing.pricing.rate_cards import RateCards
from gpt_image_runs.billing.records import Attempt, AttemptOutcome, NewAttempt
from gpt_image_runs.billing.recovery.receipts import (
    AttemptReceipt,
    list_receipts_of_run,
    read_attempt_receipts,
)
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.calls import CallInput, CallResult
from gpt_image_runs.contracts.fingerprints import fingerprint
from gpt_image_runs.contracts.request import ImageRequest
from gpt_image_runs.database.open import open_database
from gpt_image_runs.images.input_memory import ByteBudget
from gpt_image_runs.images.store import ImageStore
from gpt_image_runs.provider import body_limits
from gpt_image_runs.provider.body_limits import MIB
from gpt_image_runs.provider.catalog import Catalog
from gpt_image_runs.provider.client import ProviderSettings, open_client
from tests.support.files.picture_files import make_picture
from tests.support.ledger.ledger_examples import FINISHED_AT, IDENTITY, begin_attempt
from tests.support.ledger.tampering import tamper
from tests.support.runs.spending import decide
from tests.support.servers.scripted_provider import Handler, ScriptedProvider

REQUEST = ImageRequest(model=IDENTITY.requested_model, prompt="a lighthouse", tenant=IDENTITY.tenant)
KNOWN = replace(IDENTITY, fingerprint=fingerprint(REQUEST))
ORDER = CallInput(
    run_id=IDENTITY.run_id,
    tenant=IDENTITY.tenant,
    request_id=IDENTITY.request_id,
    request=REQUEST,
    model=IDENTITY.requested_model,
    fingerprint=KNOWN.fingerprint,
    price_ceiling_usd="0.250000",
)


class SlowLog(AttemptLog):
    """A ledger that waits for `go_on` before it begins a run, and sets `reached` first."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]  # handed on
        self.reached = asyncio.Event()
        self.go_on = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def begin_run(self, identity: RunIdentity, new: NewAttempt) -> Attempt | None:
        """Begin a run as `AttemptLog.begin_run` does, after `go_on`."""
        self._loop.call_soon_threadsafe(self.reached.set)
        asyncio.run_coroutine_threadsafe(self.go_on.wait(), self._loop).result()
        return super().begin_run(identity, new)


@asynccontextmanager
async def open_caller(
    log: AttemptLog,
    folder: Path,
    input_memory: ByteBudget | None = None,
    *,
    base_url: str = "http://127.0.0.1:9/v1",
) -> AsyncIterator[GptImageCaller]:
    """Yield a caller of a provider, by default of one that cannot be reached."""
    async with open_client(ProviderSettings(api_key="sk-test-0123456789", base_url=base_url)) as client:
        store = ImageStore.from_url((folder / "images").as_uri())
        terms = CallTerms(Catalog.load("openai"), RateCards.load(), "refuse")
        yield GptImageCaller(
            client, store, log, terms=terms, simulated=False, resends=1, input_memory=input_memory
        )


def environment_of(attempt: int) -> ActivityEnvironment:
    """Return an environment that runs this attempt of the activity."""
    environment = ActivityEnvironment()
    environment.info = replace(environment.info, workflow_id=IDENTITY.workflow_id, attempt=attempt)
    return environment


async def test_cancellation_while_a_known_run_is_looked_up_sends_nothing(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path / 'ledger.db'}", create=True)
    rejected = begin_attempt(database, KNOWN)
    log = SlowLog(database)
    log.finish(rejected.attempt_id, AttemptOutcome(outcome="rejected", finished_at=FINISHED_AT))
    environment = environment_of(attempt=1)
    async with open_caller(log, tmp_path) as caller:
        calling = asyncio.ensure_future(environment.run(caller.call_gpt_image, ORDER))
        await log.reached.wait()
        environment.cancel()
        log.go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await calling
    assert [attempt.outcome for attempt in log.list_attempts(IDENTITY.run_id)] == ["rejected"]
    database.close()


@pytest.mark.parametrize("attempt", [1, 2])
async def test_call_over_budget_leaves_its_request_id_free(tmp_path: Path, attempt: int) -> None:
    """Also in a later attempt of the activity, where something else stopped the first one before it sent anything."""
    database = open_database(f"sqlite:///{tmp_path / 'ledger.db'}", create=True)
    decide(database, {"month": 1})
    log = AttemptLog(database)
    async with open_caller(log, tmp_path) as caller:
        with pytest.raises(ApplicationError) as refused:
            await environment_of(attempt).run(caller.call_gpt_image, ORDER)
    assert refused.value.type == names.BUDGET_EXCEEDED
    assert log.find_attempts(replace(IDENTITY, fingerprint="b2" * 32)) == ()
    database.close()


@pytest.mark.parametrize(
    ("forged", "said"),
    [
        ({"tenant": "zoo"}, "tenant is 'zoo'"),
        ({"run_id": "image:zoo:req-1"}, "run_id is 'image:zoo:req-1'"),
        ({"request_id": "req-2", "run_id": "image:acme:req-2"}, "request_id is 'req-2'"),
        ({"model": "gpt-image-2.6-flare"}, "model is 'gpt-image-2.6-flare'"),
        ({"model": "gpt-image-99", "request": REQUEST.model_copy(update={"model": "gpt-image-99"})}, "none is known for gpt-image-99"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("attempt", [1, 2])
async def test_forged_call_input_is_refused_and_records_no_attempt(
    tmp_path: Path, attempt: int, forged: dict[str, Any], said: str
) -> None:
    database = open_database(f"sqlite:///{tmp_path / 'ledger.db'}", create=True)
    async with open_caller(AttemptLog(database), tmp_path) as caller:
        with pytest.raises(ApplicationError, match=re.escape(said)) as refused:
            await environment_of(attempt).run(caller.call_gpt_image, ORDER.model_copy(update=forged))
    assert (refused.value.type, refused.value.non_retryable) == (names.REQUEST_REFUSED, True)
    assert AttemptLog(database).list_attempts(str(forged.get("run_id", ORDER.run_id))) == ()
    database.close()


async def test_price_ceiling_in_the_call_input_is_ignored(tmp_path: Path) -> None:
    """The budget covers the ceiling that is passed in, and not what the request can cost."""
    database = open_database(f"sqlite:///{tmp_path / 'ledger.db'}", create=True)
    decide(database, {"month": 1})
    async with open_caller(AttemptLog(database), tmp_path) as caller:
        for passed_in in ("0.000000", "-1.000000", None):
            forged = ORDER.model_copy(update={"price_ceiling_usd": passed_in})
            with pytest.raises(ApplicationError) as refused:
                await environment_of(1).run(caller.call_gpt_image, forged)
            assert refused.value.type == names.BUDGET_EXCEEDED
    database.close()


async def test_run_with_a_gap_in_its_attempt_numbers_is_sent(tmp_path: Path) -> None:
    """A ledger that was restored from an older copy may lack the first attempt of a run and have the second."""
    database = open_database(f"sqlite:///{tmp_path / 'ledger.db'}", create=True)
    log = AttemptLog(database)
    lost, _ = begin_attempt(database, KNOWN), begin_attempt(database, KNOWN)
    for attempt in log.list_attempts(KNOWN.run_id):
        log.finish(attempt.attempt_id, AttemptOutcome(outcome="not_sent", finished_at=FINISHED_AT))
    tamper(database, f"DELETE FROM provider_attempts WHERE attempt_id = '{lost.attempt_id}'")
    async with open_caller(log, tmp_path) as caller:
        with pytest.raises(ApplicationError) as failed:
            await environment_of(3).run(caller.call_gpt_image, ORDER)
    assert failed.value.type == "ConnectionFailed"
    assert [attempt.number for attempt in log.list_attempts(KNOWN.run_id)] == [2, 3]
    database.close()


@pytest.mark.parametrize("attempt", [1, 2])
async def test_edit_waits_for_input_memory_and_releases_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attempt: int
) -> None:
    monkeypatch.setattr("activities.call_gpt_image.INPUT_MEMORY_PATIENCE_SECONDS", 0.05)
    database = open_database(f"sqlite:///{tmp_path / 'ledger.db'}", create=True)
    log, budget = AttemptLog(database), ByteBudget(1000)
    share = await budget.acquire(1000)
    picture = await ImageStore.from_url((tmp_path / "images").as_uri()).put_image(
        make_picture("PNG", (64, 64)), owner=ORDER.tenant
    )
    request = ImageRequest.model_validate(REQUEST.model_dump() | {"images": [picture.uri]})
    order = ORDER.model_copy(update={"request": request, "fingerprint": fingerprint(request)})
    async with open_caller(log, tmp_path, budget) as caller:
        with pytest.raises(ApplicationError) as full:
            await environment_of(attempt).run(caller.call_gpt_image, order)
        budget.release(share)
        with pytest.raises(ApplicationError) as unreachable:
            await environment_of(attempt).run(caller.call_gpt_image, order)
    assert (full.value.type, full.value.non_retryable) == (INPUT_MEMORY_FULL, False)
    assert full.value.next_retry_delay is not None
    assert unreachable.value.type == "ConnectionFailed"
    assert budget.held == 0
    assert [each.outcome for each in log.list_attempts(IDENTITY.run_id)] == ["not_sent"]
    database.close()


USAGE: dict[str, Any] = {"input_tokens": 50, "output_tokens": 4160}


async def call_twice(
    log: AttemptLog, folder: Path, provider: ScriptedProvider, order: CallInput = ORDER
) -> CallResult:
    """Return the result of a call, after its next attempt has found the same without another request."""
    async with open_caller(log, folder, base_url=f"{provider.url}/v1") as caller:
        result: CallResult = await environment_of(1).run(caller.call_gpt_image, order)
        again: CallResult = await environment_of(2).run(caller.call_gpt_image, order)
    assert len(provider.received) == 1
    assert again.model_copy(update={"attempts": result.attempts}) == result
    return result


async def test_answer_with_one_image_that_cannot_be_stored_keeps_the_others(
    tmp_path: Path, provider: ScriptedProvider
) -> None:
    database = open_database(f"sqlite:///{tmp_path / 'ledger.db'}", create=True)
    pictures = [make_picture("PNG", (64, 64), colour=shade) for shade in (10, 20)]
    store = ImageStore.from_url((tmp_path / "images").as_uri())
    in_the_way = store.local_path((await store.put_image(pictures[1])).uri)
    assert in_the_way is not None
    in_the_way.unlink()
    in_the_way.mkdir()
    items = [{"b64_json": base64.b64encode(picture).decode()} for picture in pictures]
    provider.answers(body=json.dumps({"data": items, "usage": USAGE}).encode())

    result = await call_twice(AttemptLog(database), tmp_path, provider)

    assert (len(result.images), result.usage, result.failure) == (1, USAGE, None)
    assert "answered with 2 pictures, and 1 of them could not be stored." in result.warnings[0]
    database.close()


async def test_result_has_the_usage_when_store_and_ledger_are_unavailable(
    tmp_path: Path, provider: ScriptedProvider
) -> None:
    """The result ends the activity, so that nothing is sent again. The run waits for its bill until the ledger is back."""
    database = open_database(f"sqlite:///{tmp_path / 'ledger.db'}", create=True)
    images = tmp_path / "images"
    picture = base64.b64encode(make_picture("PNG", (64, 64))).decode()

    async def answer(_: web.Request) -> web.StreamResponse:
        images.rename(tmp_path / "away")
        images.write_text("in the way")
        with database.writing() as connection:
            trigger = "BEFORE UPDATE ON provider_attempts BEGIN SELECT RAISE(ABORT, 'away'); END"
            connection.execute(text(f"CREATE TRIGGER away {trigger}"))
        return web.Response(body=json.dumps({"data": [{"b64_json": picture}], "usage": USAGE}).encode())

    provider.handler = answer
    async with open_caller(AttemptLog(database), tmp_path, base_url=f"{provider.url}/v1") as caller:
        result = await environment_of(1).run(caller.call_gpt_image, ORDER)
    assert (result.images, result.usage) == ((), USAGE)
    assert result.failure is not None
    assert result.failure.error_type == "ImagesNotSaved"
    assert "with 1 picture, and it could not be stored" in result.failure.message
    assert [attempt.outcome for attempt in AttemptLog(database).list_attempts(IDENTITY.run_id)] == ["unknown"]
    database.close()


async def test_answer_that_cannot_be_read_for_any_reason_is_billed_and_not_sent_again(
    tmp_path: Path, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_out_of_memory(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("activities.provider_call.image_saving.check_pictures", run_out_of_memory)
    database = open_database(f"sqlite:///{tmp_path / 'ledger.db'}", create=True)
    picture = base64.b64encode(make_picture("PNG", (64, 64))).decode()
    provider.answers(body=json.dumps({"data": [{"b64_json": picture}], "usage": USAGE}).encode())

    result = await call_twice(AttemptLog(database), tmp_path, provider)

    assert (result.images, result.usage) == ((), USAGE)
    assert result.failure is not None
    assert result.failure.error_type == "MalformedAnswer"
    database.close()


async def send_too_much(_: web.Request) -> web.StreamResponse:
    start = b'{"usage": ' + json.dumps(USAGE).encode() + b', "data": [{"b64_json": "'
    return web.Response(body=start + b"A" * 2 * MIB)


async def break_off(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b'{"usage": ' + json.dumps(USAGE).encode() + b', "data": [')
    assert request.transport is not None
    request.transport.close()
    return response


async def break_stream_off(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    await response.write(b'data: {"type": "usage", "usage": ' + json.dumps(USAGE).encode() + b"}\n\n")
    assert request.transport is not None
    request.transport.close()
    return response


@pytest.mark.parametrize(
    ("answer", "error_type"),
    [(send_too_much, "MalformedAnswer"), (break_off, "AnswerLost"), (break_stream_off, "AnswerLost")],
)
async def test_incomplete_answer_with_usage_at_its_start_is_billed(
    tmp_path: Path,
    provider: ScriptedProvider,
    monkeypatch: pytest.MonkeyPatch,
    answer: Handler,
    error_type: str,
) -> None:
    monkeypatch.setattr(body_limits, "_MAX_PICTURE", MIB // 4)
    monkeypatch.setattr(body_limits, "_OVERHEAD", MIB // 4)
    database = open_database(f"sqlite:///{tmp_path / 'ledger.db'}", create=True)
    provider.handler = answer

    result = await call_twice(AttemptLog(database), tmp_path, provider)

    assert (result.images, result.usage) == ((), USAGE)
    assert result.failure is not None
    assert result.failure.error_type == error_type
    assert "It was charged, and its usage is on the run's bill." in result.failure.message
    database.close()


async def test_too_large_answer_without_usage_is_unknown_and_not_sent_again(
    tmp_path: Path, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(body_limits, "_MAX_PICTURE", MIB // 4)
    monkeypatch.setattr(body_limits, "_OVERHEAD", MIB // 4)
    database = open_database(f"sqlite:///{tmp_path / 'ledger.db'}", create=True)
    log = AttemptLog(database)
    provider.answers(body=b'{"data": [{"b64_json": "' + b"A" * 2 * MIB)
    async with open_caller(log, tmp_path, base_url=f"{provider.url}/v1") as caller:
        with pytest.raises(ApplicationError) as failed:
            await environment_of(1).run(caller.call_gpt_image, ORDER)
    assert (failed.value.type, failed.value.non_retryable) == ("MalformedAnswer", True)
    assert [attempt.outcome for attempt in log.list_attempts(IDENTITY.run_id)] == ["unknown"]
    database.close()


async def test_unknown_attempt_with_usage_is_billed_and_not_sent_again(
    tmp_path: Path,
) -> None:
    """Older versions recorded an answer that was too large like this."""
    database = open_database(f"sqlite:///{tmp_path / 'ledger.db'}", create=True)
    log = AttemptLog(database)
    unknown = AttemptOutcome(
        outcome="unknown", finished_at=FINISHED_AT, error_type="MalformedAnswer", response={"usage": USAGE}
    )
    log.finish(begin_attempt(database, KNOWN).attempt_id, unknown)
    async with open_caller(log, tmp_path) as caller:
        result = await environment_of(2).run(caller.call_gpt_image, ORDER)
    assert (result.usage, result.attempts) == (USAGE, 1)
    assert result.failure is not None
    assert [attempt.outcome for attempt in log.list_attempts(IDENTITY.run_id)] == ["succeeded"]
    database.close()


async def test_receipt_without_an_outcome_is_replaced_when_the_request_is_rejected(
    tmp_path: Path, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow request has a receipt without an outcome meanwhile. If it stayed, the request would count as unknown."""
    monkeypatch.setattr("activities.provider_call.earlier_attempts._OPEN_RECEIPT_AFTER_SECONDS", 0.0)
    database = open_database(f"sqlite:///{tmp_path / 'ledger.db'}", create=True)
    store = ImageStore.from_url((tmp_path / "images").as_uri())
    before: list[AttemptReceipt | None] = []

    async def read_receipts() -> list[AttemptReceipt | None]:
        written = await list_receipts_of_run(store, IDENTITY.run_id)
        return [receipt async for receipt in read_attempt_receipts(store, written)]

    async def answer(_: web.Request) -> web.StreamResponse:
        async with asyncio.timeout(30):
            while not before:
                before.extend(await read_receipts())
                await asyncio.sleep(0.01)
        return web.json_response({"error": {"message": "no such size", "code": "invalid_value"}}, status=400)

    provider.handler = answer
    async with open_caller(AttemptLog(database), tmp_path, base_url=f"{provider.url}/v1") as caller:
        with pytest.raises(ApplicationError) as failed:
            await environment_of(1).run(caller.call_gpt_image, ORDER)
    [under_way], [ended] = before, await read_receipts()
    assert failed.value.type == "InvalidRequest"
    assert under_way is not None
    assert under_way.outcome is None
    assert ended is not None
    assert ended.outcome is not None
    assert (ended.attempt.attempt_id, ended.outcome.outcome) == (under_way.attempt.attempt_id, "rejected")
    database.close()
