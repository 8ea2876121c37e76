"""Partial pictures: shown while the provider draws, kept apart from results, and never in the way of the bill."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import WorkflowUpdateFailedError
from temporalio.contrib.workflow_streams import WorkflowStreamClient

from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.images import PartialImage
from gpt_image_runs.images.formats import verify_picture
from tests.support.files.picture_files import make_picture
from tests.support.runs import economy_runs as economy
from tests.support.runs.run_states import decide, details_of, raw, status_of, until, until_held
from tests.support.servers.stack import CONTRACT, Stack, event_names, new_run_id, run_stack, sqlite_url

pytestmark = pytest.mark.asyncio(loop_scope="session")

STREAMED: dict[str, Any] = {
    "model": "gpt-image-2",
    "prompt": "A lighthouse",
    "size": "1024x1024",
    "quality": "low",
    "partial_images": 2,
}
LAST_EVENT_SECONDS = 60


async def collect(stack: Stack, run_id: str) -> list[PartialImage]:
    """Collect what a subscriber receives until the end of the run."""
    stream = WorkflowStreamClient.create(stack.client, run_id)
    told = stream.topic(names.TOPIC_PARTIAL_IMAGES, type=PartialImage).subscribe()
    async with asyncio.timeout(LAST_EVENT_SECONDS):
        return [item.data async for item in told]


async def test_streamed_run_publishes_two_partial_images_and_bills_once(any_stack: Stack) -> None:
    """A subscriber hears of both before the call has ended; the one result is billed by the last event's usage."""
    handle = await any_stack.start(STREAMED)
    told = await collect(any_stack, handle.id)
    done = await handle.result()

    (call,) = any_stack.calls(handle.id)
    (attempt,) = any_stack.attempts(handle.id)
    assert [(partial.attempt_id, partial.index) for partial in told] == [
        (attempt.attempt_id, 0),
        (attempt.attempt_id, 1),
    ]
    for partial in told:
        data = await any_stack.store.read(partial.image.uri)
        assert verify_picture(data)[:3] == ("image/png", 1024, 1024)
        assert partial.image.uri.startswith(f"{any_stack.store.root}partial/")
    assert len({done["images"][0]["sha256"], *(partial.image.sha256 for partial in told)}) == 3
    # 196 for the picture and 100 for each partial one, as the provider says and its books do
    assert done["usage"]["output_tokens"] == 396
    assert done["usage"] == call.usage
    assert done["cost"]["amount_usd"] == f"{call.list_price_micro_usd / 1_000_000:.6f}"
    (entry,) = any_stack.entries(handle.id)
    assert (entry.kind, entry.usage, len(entry.images)) == ("charge", call.usage, 1)
    kinds = event_names(await any_stack.events(handle.id))
    signals = [place for place, kind in enumerate(kinds) if kind == "WORKFLOW_EXECUTION_SIGNALED"]
    assert len(signals) == 2
    assert max(signals) < kinds.index("ACTIVITY_TASK_COMPLETED")


async def test_streamed_edit_is_billed_by_its_last_event(stack: Stack) -> None:
    """The provider's own payload, with stream, works on a picture; it is billed by the last event's usage."""
    image = await stack.store.put_image(make_picture("PNG", (256, 256)))
    result = await stack.run({**STREAMED, "stream": True, "n": 1, "images": [image.uri]})

    (call,) = stack.calls(result.run_id)
    assert (call.endpoint, call.partial_images, call.usage) == ("edits", 2, result.usage)
    assert result.cost.amount_usd == f"{call.list_price_micro_usd / 1_000_000:.6f}"
    assert len(await collect(stack, result.run_id)) == 2


async def test_silent_stream_shows_its_partial_image_and_is_sent_again(tmp_path: Path) -> None:
    """While the provider is silent its partial picture is in the status and on the page; cut off, it is sent again."""
    images = tmp_path / "images"
    async with run_stack(sqlite_url(tmp_path), images.as_uri()) as stack:
        stack.simulator.script("stream_stalled=1", match=STREAMED["prompt"])
        handle = await stack.start(STREAMED)

        async def is_shown() -> bool:
            return bool((await status_of(handle)).partial_images)

        await until(is_shown)
        status, page = await status_of(handle), await details_of(handle)
        (partial,) = status.partial_images
        assert (status.stage, status.images) == ("generating", 0)
        assert f"| [1024x1024 image/png]({partial.image.uri})" in page
        assert (images / "partial").is_dir()

        port = int(stack.simulator.base_url.removesuffix("/v1").rpartition(":")[2])
        await stack.simulator.stop()
        await stack.simulator.start(port=port)
        result = await handle.result()
        silent, *others, paid = stack.attempts(handle.id)
        assert (silent.outcome, silent.error_type) == ("unknown", "AnswerLost")
        assert "after 1 partial picture" in (silent.error_message or "")
        told = await collect(stack, handle.id)
        assert [(one.attempt_id, one.index) for one in told] == [
            (silent.attempt_id, 0),
            (paid.attempt_id, 0),
            (paid.attempt_id, 1),
        ]
        assert {other.outcome for other in others} <= {"not_sent"}
        assert result["provider"]["attempts"] == len(others) + 2
        (entry,) = stack.entries(handle.id)
        assert entry.attempt_id == paid.attempt_id


@pytest.mark.parametrize(
    ("fault", "failure", "outcome", "shown"),
    [
        ("stream_broken", "AnswerLost", "unknown", 0),
        ("stream_broken=1", "AnswerLost", "unknown", 1),
        ("stream_broken=3", "AnswerLost", "unknown", 2),
        ("stream_error=1,paid=true", "StreamFailed", "unknown", 1),
        ("rate_limited,seconds=0.2,header=retry-after-ms", "RateLimited", "rejected", 0),
    ],
)
async def test_broken_stream_is_sent_again_and_billed_once(
    stack: Stack, fault: str, failure: str, outcome: str, shown: int
) -> None:
    """What broke after it had begun is unknown, what was refused before is not; the second request is billed, once."""
    prompt = f"A lighthouse after {fault.partition(',')[0]}"
    stack.simulator.script(fault, match=prompt)
    result = await stack.run({**STREAMED, "prompt": prompt})

    first, second = stack.attempts(result.run_id)
    assert (first.outcome, first.error_type, second.outcome) == (outcome, failure, "succeeded")
    told = await collect(stack, result.run_id)
    assert [partial.attempt_id for partial in told] == [first.attempt_id] * shown + [second.attempt_id] * 2
    (entry,) = stack.entries(result.run_id)
    assert entry.attempt_id == second.attempt_id


@pytest.mark.parametrize(
    ("fault", "failure", "outcome"),
    [
        ("stream_malformed=1", "MalformedAnswer", "unknown"),
        ("stream_ended=2", "MalformedAnswer", "unknown"),
        ("stream_error=1,error=moderation_blocked", "OutputRefused", "unknown"),
        ("moderation_blocked", "ContentRefused", "rejected"),
    ],
)
async def test_permanently_failing_stream_is_sent_once(
    stack: Stack, fault: str, failure: str, outcome: str
) -> None:
    """What would break again is sent once, and the run fails under the failure's name, without an entry."""
    run_id = new_run_id()
    cause = await stack.fail({**STREAMED, "prompt": f"A lighthouse [simulate:{fault}]"}, run_id=run_id)

    (attempt,) = stack.attempts(run_id)
    assert (cause.type, attempt.error_type, attempt.outcome) == (failure, failure, outcome)
    assert stack.entries(run_id) == ()


@pytest.mark.parametrize(("dialect", "count"), [("gateway", 2), ("wrapped", 0), ("event_line", 2)])
async def test_stream_with_other_event_names_is_paid_and_billed_once(
    stack: Stack, dialect: str, count: int
) -> None:
    """The picture and the usage are in the stream, whatever its events are called: one request, one bill."""
    result = await stack.run({**STREAMED, "prompt": f"A lighthouse [simulate:stream_dialect={dialect}]"})

    (call,) = stack.calls(result.run_id)
    assert result.usage == call.usage
    assert (result.billing.state, len(result.images)) == ("billed", 1)
    assert len(await collect(stack, result.run_id)) == count


async def test_held_run_shows_its_partial_image(stack: Stack) -> None:
    """Who has to decide about a broken stream sees the picture that came before it broke."""
    prompt = "A lighthouse to decide on"
    stack.simulator.script("stream_broken=1", match=prompt)
    handle = await stack.start({**STREAMED, "prompt": prompt, "unknown_outcome": "hold"})
    status = await until_held(handle)

    (partial,) = status.partial_images
    assert partial.image.uri in await details_of(handle)
    late = {**partial.model_dump(mode="json"), "index": 1}
    await handle.signal(names.SIGNAL_PARTIAL_IMAGE, late)
    assert (await status_of(handle)).partial_images == (partial,)  # it comes late, and moves nothing
    await decide(handle)
    await handle.result()
    assert len(await collect(stack, handle.id)) == 4
    assert partial.image.uri not in await details_of(handle)


@pytest.mark.parametrize(
    ("fault", "output_tokens", "shown"),
    [("fewer_partials", 296, 1), ("bad_partial", 396, 1), ("stream_ignored", 196, 0)],
)
async def test_stream_with_fewer_partial_images_is_billed_by_its_usage(
    stack: Stack, fault: str, output_tokens: int, shown: int
) -> None:
    """Fewer partial pictures, a useless one or none at all: the finished one is kept, and its usage billed."""
    result = await stack.run({**STREAMED, "prompt": f"A lighthouse [simulate:{fault}]"})

    (call,) = stack.calls(result.run_id)
    assert isinstance(result.usage, dict)
    assert (result.usage["output_tokens"], result.usage) == (output_tokens, call.usage)
    assert result.billing.state == "billed"
    assert len(await collect(stack, result.run_id)) == shown


async def test_stream_without_usage_is_held(stack: Stack) -> None:
    """How many partial pictures are billed is not known then, so nothing is estimated."""
    result = await stack.run({**STREAMED, "prompt": "A lighthouse [simulate:missing_usage]"})

    assert (result.billing.state, result.cost.amount_usd) == ("pending", None)
    assert "no sound estimate with partial images" in (result.billing.reason or "")
    assert len(result.images) == 1


async def test_partial_image_that_cannot_be_stored_costs_no_answer(tmp_path: Path) -> None:
    """Where the store has no place for partial pictures, the finished one is kept and billed all the same."""
    images = tmp_path / "images"
    images.mkdir()
    (images / "partial").write_text("a file where a folder should be")
    async with run_stack(sqlite_url(tmp_path), images.as_uri()) as stack:
        result = await stack.run(STREAMED)

        assert (result.billing.state, result.provider.attempts) == ("billed", 1)
        assert await collect(stack, result.run_id) == []


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"model": "gpt-image-1.5"}, "partial_images"),
        ({"model": "gpt-image-9"}, "partial_images"),
        ({"partial_images": 4}, "partial_images"),
        ({"n": 2}, "n"),
        ({"partial_images": None, "stream": True}, "stream"),
    ],
)
async def test_streaming_of_unsupported_requests_is_refused(
    stack: Stack, changed: dict[str, Any], field: str
) -> None:
    """It is refused before anything is sent, and the field is named."""
    failure = await stack.fail({**STREAMED, **changed})

    assert (failure.type, [problem["field"] for problem in failure.details]) == (
        names.REQUEST_REFUSED,
        [field],
    )


async def test_economy_line_with_partial_images_is_refused(stack: Stack) -> None:
    """Its line is refused: the provider's batches show nothing before they are done."""
    requests = economy.make_requests(economy.new_batch_id(), ["A cup"], model="gpt-image-2", partial_images=1)
    summary, _ = await economy.run_batch(stack, requests)

    assert (summary.refused, stack.calls(economy.run_ids(requests)[0])) == (1, [])


async def test_invalid_stream_signals_and_polls_do_not_stop_a_run(stack: Stack) -> None:
    """Signals and polls that no client of ours would send neither stop a run nor are told on."""
    prompt = "A lighthouse among strangers"
    stack.simulator.script("stream_broken=1", match=prompt)
    handle = await stack.start({**STREAMED, "prompt": prompt, "unknown_outcome": "hold"})
    shown = (await until_held(handle)).partial_images
    known = shown[0].model_dump(mode="json")

    partials: list[list[Any]] = [[], [5], [{}], [known] * 2, [known], [{**known, "index": 3}], [raw(b"{")]]
    partials.append(
        [{**known, "attempt_id": "a" * 1_800_000}]
    )  # beyond what an answer may have, once it is encoded
    for arguments in partials:
        await handle.signal(names.SIGNAL_PARTIAL_IMAGE, args=arguments)
    publications: list[list[Any]] = [
        [],
        [5],
        [{"items": [{"topic": "partial_images", "data": "!"}]}],
        [{}, {}],
    ]
    for arguments in publications:
        await handle.signal("__temporal_workflow_stream_publish", args=arguments)
    polls: list[list[Any]] = [[], [5], [{"from_offset": "x"}], [{}, {}]]
    for arguments in polls:
        with pytest.raises(WorkflowUpdateFailedError):
            await handle.execute_update("__temporal_workflow_stream_poll", args=arguments)
    assert (await status_of(handle)).partial_images == shown
    await decide(handle)

    assert (await handle.result())["billing"]["state"] == "billed"
    assert [partial.index for partial in await collect(stack, handle.id)] == [0, 0, 1]


async def test_subscriber_of_a_run_without_partial_images_is_released_at_its_end(stack: Stack) -> None:
    """Who listens to a run that shows nothing is let go at its end, and costs it no failure."""
    run_id = new_run_id()
    handle = await stack.start({**CONTRACT, "prompt": "A cup [simulate:delay=1]"}, run_id=run_id)
    assert await collect(stack, run_id) == []
    assert (await handle.result())["billing"]["state"] == "billed"
