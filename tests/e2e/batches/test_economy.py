"""Economy batches on a real Temporal server, databases and HTTP: each line is sent once and billed once."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import WorkflowFailureError

from activities.economy import send as send_economy_part
from activities.economy import settle as settle_economy_lines
from activities.economy.plan import PartSplitter
from gpt_image_runs.batches.economy import EconomyAttempts
from gpt_image_runs.billing.attempts.attempts import AttemptLog
from gpt_image_runs.billing.attempts.runs import RunIdentity
from gpt_image_runs.billing.records import NewAttempt
from gpt_image_runs.billing.verification.verify import LedgerVerification
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.batches import BatchLine
from gpt_image_runs.contracts.economy import EconomyOrder, EconomySummary
from gpt_image_runs.contracts.fingerprints import fingerprint
from gpt_image_runs.contracts.request import ImageRequest
from gpt_image_runs.images.formats import verify_picture
from simulator.batches.faults import BatchFaultKind
from tests.support.files.picture_files import make_picture
from tests.support.ledger.ledger_examples import SUCCEEDED
from tests.support.runs.economy_runs import (
    finish,
    look,
    make_requests,
    new_batch_id,
    run_batch,
    run_ids,
    show,
    start,
    until_sent,
    write_pages,
)
from tests.support.servers.stack import CONTRACT, Stack, run_stack, sqlite_url

pytestmark = pytest.mark.asyncio(loop_scope="session")


def outcomes(stack: Stack, requests: list[dict[str, Any]]) -> list[list[tuple[str, str | None]]]:
    """List the outcomes and error types of the attempts of each line's run."""
    return [
        [(attempt.outcome, attempt.error_type) for attempt in stack.attempts(run_id)]
        for run_id in run_ids(requests)
    ]


def paid_lines(stack: Stack, requests: list[dict[str, Any]]) -> list[str]:
    """List the lines that the provider charged for, each as often as it did."""
    wanted = set(run_ids(requests))
    return sorted(str(entry.custom_id) for entry in stack.simulator.books.paid if entry.custom_id in wanted)


def find_findings(stack: Stack) -> list[object]:
    return list(LedgerVerification(stack.database, lambda _done, _all: None).find())


async def test_economy_batch_bills_every_line_at_half_price(any_stack: Stack) -> None:
    """Two models, edits with masks; the charges equal the provider's records and are derived again by verification."""
    stack, batch_id = any_stack, new_batch_id()
    image = await stack.store.put_image(make_picture("PNG", (1024, 1024)))
    mask = await stack.store.put_image(make_picture("PNG", (1024, 1024), "RGBA"))
    requests = make_requests(batch_id, ("A cup", "A plate", "A spoon", "A fork", "Make it winter"))
    requests[1] |= {"n": 2, "metadata": {"order": "4711"}}
    requests[2] |= {"model": "gpt-image-2", "output_format": "webp", "output_compression": 50}
    requests[4] |= {"images": [image.model_dump()], "mask": mask.uri, "quality": "medium"}
    before = len(stack.simulator.batches.all)

    summary, order = await run_batch(stack, requests, batch_id=batch_id)

    assert (summary.done, summary.images, summary.lines) == (5, 6, 5)
    assert len(stack.simulator.batches.all) - before == len(summary.provider_batch_ids) == 3
    charged = 0
    for request, run_id in zip(requests, run_ids(requests), strict=True):
        [attempt], [entry] = stack.attempts(run_id), stack.entries(run_id)
        assert (attempt.outcome, attempt.batch_part is not None) == ("succeeded", True)
        assert (entry.kind, entry.flags, entry.rate_card) == (
            "charge",
            ("batch_price",),
            "charge-batch-2026-11-04",
        )
        [book] = [each for each in stack.simulator.books.paid if each.custom_id == run_id]
        assert entry.usage == book.usage
        assert len(entry.images) == request.get("n", 1)
        for each in entry.images:
            verify_picture(await stack.store.read(each.uri))
        usage = book.usage or {}
        if request["model"] == "gpt-image-1":
            micro_usd = 5 * usage["input_tokens"] + 20 * usage["output_tokens"]
        else:
            micro_usd = book.list_price_micro_usd
        assert entry.amount_usd == f"{micro_usd / 1_000_000:.6f}"
        assert entry.list_cost_usd == f"{book.list_price_micro_usd / 1_000_000:.6f}"
        charged += micro_usd
    assert summary.charged_usd == f"{charged / 1_000_000:.6f}"
    assert stack.entries(run_ids(requests)[1])[0].metadata == {"order": "4711"}
    assert find_findings(stack) == []
    history = await stack.events(order.workflow_id)
    assert sum(event.ByteSize() for event in history) < 60_000


async def test_each_line_gets_the_outcome_of_its_result(stack: Stack) -> None:
    """Refused, failed, damaged, without or with contradicting usage, and invalid lines end as single runs do."""
    batch_id = new_batch_id()
    requests = make_requests(
        batch_id,
        (
            "A cup",
            "[simulate:moderation_blocked]",
            "[simulate:server_error]",
            "A torn cup [simulate:not_an_image]",
            "A free cup [simulate:missing_usage]",
            "A cup of two counts [simulate:mixed_usage]",
            "A cup too many",
            "[simulate:error_in_success=moderation_blocked]",
        ),
    )
    requests[6]["n"] = 11
    unread = BatchLine(line=9, problem="The line is no JSON.")

    summary, _ = await run_batch(stack, [*requests, unread], batch_id=batch_id)

    assert outcomes(stack, requests) == [
        [("succeeded", None)],
        [("rejected", "ContentRefused")],
        [("rejected", "ServerError")],
        [("succeeded", "MalformedAnswer")],
        [("succeeded", None)],
        [("succeeded", None)],
        [],
        [("rejected", "ContentRefused")],
    ]
    assert (summary.done, summary.rejected, summary.unknown, summary.refused) == (4, 3, 0, 2)
    [torn] = stack.entries(run_ids(requests)[3])
    assert (torn.kind, torn.image_count) == ("charge", 0)
    [hold] = stack.entries(run_ids(requests)[5])
    assert (hold.kind, hold.amount_usd) == ("hold", None)
    assert (hold.reason or "").startswith("usage.prompt_tokens is ")
    [estimate] = stack.entries(run_ids(requests)[4])
    assert (estimate.kind, estimate.amount_usd) == ("estimate", "0.005440")  # 272 tokens at 20
    kept = await stack.store.read_document(
        f"malformed/{stack.attempts(run_ids(requests)[3])[0].attempt_id}.body"
    )
    assert kept is not None
    assert find_findings(stack) == []


async def test_expired_lines_are_not_charged_and_run_in_the_next_round(any_stack: Stack) -> None:
    stack, batch_id = any_stack, new_batch_id()
    requests = make_requests(batch_id, (f"Cup {number}" for number in range(5)))
    stack.simulator.batches.script(BatchFaultKind.EXPIRED, lines=2)

    first, order = await run_batch(stack, requests, batch_id=batch_id)
    ended = outcomes(stack, requests)
    second = await finish(stack.simulator, await start(stack.client, order))

    assert (first.round, first.done, first.not_sent, first.unknown) == (1, 2, 3, 0)
    assert sorted(ended) == [[("not_sent", "BatchExpired")]] * 3 + [[("succeeded", None)]] * 2
    assert (second.round, second.done, second.passed, second.not_sent) == (2, 3, 2, 0)
    assert paid_lines(stack, requests) == sorted(run_ids(requests))
    assert all(len(stack.entries(run_id)) == 1 for run_id in run_ids(requests))


async def test_batch_that_fails_validation_costs_nothing(stack: Stack) -> None:
    batch_id = new_batch_id()
    requests = make_requests(batch_id, ("A cup", "A plate"))
    stack.simulator.batches.script(BatchFaultKind.VALIDATION_FAILED)

    first, order = await run_batch(stack, requests, batch_id=batch_id)
    [attempt] = stack.attempts(run_ids(requests)[0])
    second = await finish(stack.simulator, await start(stack.client, order))

    assert (first.not_sent, first.done) == (2, 0)
    assert attempt.error_type == "BatchFailed"
    assert "token_limit_exceeded" in (attempt.error_message or "")
    assert second.done == 2


async def test_batch_is_found_after_a_lost_response(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(send_economy_part, "LOOK_AGAIN", None)
    batch_id, before = new_batch_id(), len(stack.simulator.batches.all)
    requests = make_requests(batch_id, ("A cup", "A plate"))
    stack.simulator.batches.script(BatchFaultKind.CREATE_REPLY_LOST)

    summary, _ = await run_batch(stack, requests, batch_id=batch_id)

    assert len(stack.simulator.batches.all) == before + 1
    assert summary.done == 2
    assert paid_lines(stack, requests) == sorted(run_ids(requests))


@pytest.mark.parametrize("skew", [timedelta(seconds=-45), timedelta(days=1), timedelta(days=-1)], ids=str)
async def test_batch_is_found_despite_a_wrong_clock_of_the_claiming_worker(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, skew: timedelta
) -> None:

    class Skewed(datetime):
        """A clock that is a day off."""

        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + skew

    monkeypatch.setattr(send_economy_part, "LOOK_AGAIN", None)
    monkeypatch.setattr("activities.economy.claim.datetime", Skewed)
    batch_id, before = new_batch_id(), len(stack.simulator.batches.all)
    requests = make_requests(batch_id, ("A cup", "A plate"))
    stack.simulator.batches.script(BatchFaultKind.CREATE_REPLY_LOST)

    summary, _ = await run_batch(stack, requests, batch_id=batch_id)

    assert len(stack.simulator.batches.all) == before + 1
    assert summary.done == 2


async def test_same_lines_in_two_batches_are_paid_once(stack: Stack) -> None:
    first_id, second_id = new_batch_id(), new_batch_id()
    requests = make_requests(first_id, ("A cup", "A plate", "A spoon"))
    await stack.run(requests[2], run_id=run_ids(requests)[2])
    before = len(stack.simulator.batches.all)

    waiting = await start(stack.client, await write_pages(stack.store, first_id, requests))
    await until_sent(stack.simulator, before + 1)
    passed, order = await run_without_time(stack, second_id, requests)
    done = await finish(stack.simulator, waiting)
    again = await finish(stack.simulator, await start(stack.client, order))

    assert (passed.done, passed.passed) == (0, 3)
    assert (done.done, done.passed) == (2, 1)
    assert (again.round, again.passed) == (2, 3)
    assert len(stack.simulator.batches.all) == before + 1
    assert paid_lines(stack, requests) == sorted(run_ids(requests)[:2])


async def run_without_time(
    stack: Stack, batch_id: str, requests: list[Any]
) -> tuple[EconomySummary, EconomyOrder]:
    """Run a round that has nothing to send, without advancing the provider's time."""
    order = await write_pages(stack.store, batch_id, requests)
    handle = await start(stack.client, order)
    async with asyncio.timeout(60):
        return EconomySummary.model_validate(await handle.result()), order


async def test_submit_uses_what_a_batch_has_paid(any_stack: Stack) -> None:
    stack, batch_id = any_stack, new_batch_id()
    requests = make_requests(batch_id, ("A cup",))
    [run_id] = run_ids(requests)
    before = len(stack.simulator.batches.all)
    handle = await start(stack.client, await write_pages(stack.store, batch_id, requests))
    await until_sent(stack.simulator, before + 1)

    refused = await stack.fail(requests[0], run_id=run_id)
    await finish(stack.simulator, handle)
    found = await stack.run(requests[0], run_id=run_id)

    assert refused.type == "WaitsInABatch"
    assert batch_id in refused.message
    [entry] = stack.entries(run_id)
    assert found.billing.entry_id == entry.entry_id
    assert found.cost.amount_usd == entry.amount_usd == "0.005480"  # 8 tokens at 5, 272 at 20
    assert found.images == entry.images
    assert stack.calls(run_id) == []
    assert paid_lines(stack, requests) == [run_id]


async def test_submit_bills_a_paid_line_at_the_batch_price(stack: Stack) -> None:
    request: dict[str, Any] = {**CONTRACT, "request_id": new_batch_id()}
    [run_id] = run_ids([request])
    identity = RunIdentity(
        run_id=run_id,
        tenant="default",
        request_id=request["request_id"],
        workflow_id=names.economy_workflow_id("summer"),
        fingerprint=fingerprint(ImageRequest.model_validate(request)),
        operation="generate",
        requested_model="gpt-image-1",
    )
    new = NewAttempt(
        run_id=run_id,
        workflow_run_id="",
        model="gpt-image-1",
        provider="simulator",
        sent_at=datetime.now(UTC),
        batch_part="summer/0/1/0",
    )
    attempt = EconomyAttempts(stack.database).claim(identity, new, resends=0).attempt
    AttemptLog(stack.database).finish(attempt.attempt_id, SUCCEEDED)

    result = await stack.run(request, run_id=run_id)

    assert (result.cost.amount_usd, result.cost.flags) == ("0.083450", ("batch_price",))
    assert stack.calls(run_id) == []


async def test_expired_line_can_be_submitted_and_is_then_passed_over(stack: Stack) -> None:
    batch_id = new_batch_id()
    requests = make_requests(batch_id, ("A cup",))
    [run_id] = run_ids(requests)
    stack.simulator.batches.script(BatchFaultKind.EXPIRED, lines=0)
    _, order = await run_batch(stack, requests, batch_id=batch_id)

    result = await stack.run(requests[0], run_id=run_id)
    again = await finish(stack.simulator, await start(stack.client, order))

    assert result.cost.amount_usd == "0.010960"
    assert [attempt.outcome for attempt in stack.attempts(run_id)] == ["not_sent", "succeeded"]
    assert again.passed == 1


@pytest.mark.parametrize("by_signal", [True, False])
async def test_cancelled_economy_batch_bills_what_was_done(stack: Stack, *, by_signal: bool) -> None:
    batch_id, before = new_batch_id(), len(stack.simulator.batches.all)
    requests = make_requests(batch_id, (f"Cup {number}" for number in range(4)))
    handle = await start(stack.client, await write_pages(stack.store, batch_id, requests))
    await until_sent(stack.simulator, before + 1)
    batch = stack.simulator.batches.all[-1]
    await stack.simulator.batches.advance(batch)
    await stack.simulator.batches.advance(batch, lines=1)

    await (handle.signal(names.SIGNAL_CANCEL) if by_signal else handle.cancel())
    async with asyncio.timeout(60):
        while batch.status != "cancelling":
            await asyncio.sleep(0.05)
    summary = await finish(stack.simulator, handle)

    assert (summary.status, summary.done, summary.not_sent) == ("cancelled", 1, 3)
    assert min(outcomes(stack, requests)) == [("not_sent", "BatchCancelled")]
    assert len(paid_lines(stack, requests)) == 1


async def test_batch_cancelled_during_validation_costs_nothing(stack: Stack) -> None:
    batch_id, before = new_batch_id(), len(stack.simulator.batches.all)
    requests = make_requests(batch_id, ("A cup", "A plate"))
    handle = await start(stack.client, await write_pages(stack.store, batch_id, requests))
    await until_sent(stack.simulator, before + 1)
    batch = stack.simulator.batches.all[-1]

    await handle.signal(names.SIGNAL_CANCEL)
    async with asyncio.timeout(60):
        while batch.status != "cancelling":
            await asyncio.sleep(0.05)
    summary = await finish(stack.simulator, handle)
    again, _ = await run_batch(stack, requests, batch_id=batch_id)

    assert (summary.not_sent, summary.unknown) == (2, 0)
    assert outcomes(stack, requests)[0][0] == ("not_sent", "BatchCancelled")
    assert again.done == 2


async def test_lines_without_a_result_are_of_unknown_outcome(stack: Stack) -> None:
    gone_id, untold_id = new_batch_id(), new_batch_id()
    stack.simulator.batches.script(BatchFaultKind.OUTPUT_GONE)
    gone = make_requests(gone_id, ("A cup", "A plate"))
    gone_summary, _ = await run_batch(stack, gone, batch_id=gone_id)
    stack.simulator.batches.script(BatchFaultKind.LINES_UNTOLD, lines=1)
    untold = make_requests(untold_id, ("A cup", "A plate"))
    untold_summary, _ = await run_batch(stack, untold, batch_id=untold_id)

    assert (gone_summary.unknown, gone_summary.done) == (2, 0)
    assert outcomes(stack, gone) == [[("unknown", "ResultMissing")]] * 2
    [attempt] = stack.attempts(run_ids(gone)[0])
    assert "No such File object" in (attempt.error_message or "")
    assert (untold_summary.unknown, untold_summary.done) == (1, 1)


async def test_result_file_is_settled_in_sections_despite_a_broken_download(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settle_economy_lines, "LINES_A_SECTION", 4)
    batch_id = new_batch_id()
    requests = make_requests(batch_id, (f"Cup {number}" for number in range(10)))
    stack.simulator.batches.script(BatchFaultKind.DOWNLOAD_CUT_OFF)

    summary, order = await run_batch(stack, requests, batch_id=batch_id)

    assert summary.done == 10
    assert all(len(stack.entries(run_id)) == 1 for run_id in run_ids(requests))
    scheduled = [
        event.activity_task_scheduled_event_attributes.activity_type.name
        for event in await stack.events(order.workflow_id)
        if event.HasField("activity_task_scheduled_event_attributes")
    ]
    assert scheduled.count(names.SETTLE_ECONOMY_LINES) == 3


async def test_batch_of_several_pages_and_parts_has_each_line_once(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PartSplitter.__init__, "__defaults__", (3, 200_000_000))
    batch_id, before = new_batch_id(), len(stack.simulator.batches.all)
    requests = make_requests(batch_id, (f"Cup {number}" for number in range(8)))
    order = await write_pages(stack.store, batch_id, requests, lines_a_page=3)

    handle = await start(stack.client, order)
    await until_sent(stack.simulator, before + 3)
    await look(handle)
    progress = await show(handle)
    summary = await finish(stack.simulator, handle)

    assert [each.part.lines for each in progress.parts] == [3, 3, 2]
    assert summary.done == 8
    assert paid_lines(stack, requests) == sorted(run_ids(requests))


async def test_repeated_or_used_request_id_is_refused_and_sent_at_most_once(stack: Stack) -> None:
    batch_id = new_batch_id()
    requests = make_requests(batch_id, ("A cup", "A plate", "A spoon"))
    await stack.run({**requests[2], "prompt": "Something else"}, run_id=run_ids(requests)[2])

    summary, _ = await run_batch(stack, [*requests, requests[0]], batch_id=batch_id)

    assert (summary.done, summary.refused, summary.passed) == (2, 1, 1)
    assert paid_lines(stack, requests) == sorted(run_ids(requests)[:2])


async def test_invalid_economy_order_is_refused_with_every_problem(stack: Stack) -> None:
    handle = await stack.client.start_workflow(
        names.ECONOMY_BATCH, {"batch_id": "-", "lines": 0}, id=new_batch_id(), task_queue=names.RUNS_QUEUE
    )
    with pytest.raises(WorkflowFailureError) as raised:
        await handle.result()
    assert raised.value.cause is not None
    message = str(raised.value.cause)
    assert "batch_id is '-'; allowed: 1 to 64 characters" in message
    assert "digest is absent" in message


async def test_refused_key_rejects_the_part_and_the_next_round_sends_it(tmp_path: Path) -> None:
    batch_id = new_batch_id()
    requests = make_requests(batch_id, ("A cup",))
    database, store = sqlite_url(tmp_path), (tmp_path / "images").as_uri()
    async with run_stack(database, store, openai_api_key="sk-invalid-0123456789") as stack:
        refused, order = await run_batch(stack, requests, batch_id=batch_id)
        ended = outcomes(stack, requests)
    async with run_stack(database, store) as stack:
        done = await finish(stack.simulator, await start(stack.client, order))

    assert (refused.rejected, refused.provider_batch_ids) == (1, ())
    assert ended == [[("rejected", "BatchRefused")]]
    assert (done.round, done.done) == (2, 1)
