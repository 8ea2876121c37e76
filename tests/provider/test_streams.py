"""Streamed answers through the real SDK: from the simulator, and from servers that say what no provider should."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from gpt_image_runs.billing.pricing.paid_attempt import limit_usage_size
from gpt_image_runs.contracts.request import ImageRequest
from gpt_image_runs.provider import errors
from gpt_image_runs.provider.calls import FilePart, PartialPicture
from gpt_image_runs.provider.client import ImageClient, ProviderCall, ProviderSettings, RawAnswer, open_client
from gpt_image_runs.provider.responses import read_answer
from gpt_image_runs.provider.stream_events import EventSplitter, StreamEvent
from simulator.server import Simulator
from tests.support.files.picture_files import make_picture

KEY = "sk-proj-0123456789abcdefghijklmnop"
PARTIAL = {"type": "image_generation.partial_image", "partial_image_index": 0, "b64_json": "QUJD"}
FINISHED = {"b64_json": "QUJD", "usage": {"output_tokens": 7}}
COMPLETED = {"type": "image_generation.completed", "b64_json": "QUJD", "usage": {"output_tokens": 7}}
REQUEST = ImageRequest.model_validate(
    {
        "model": "gpt-image-2",
        "prompt": "a lighthouse",
        "size": "1024x1024",
        "quality": "low",
        "partial_images": 2,
        "stream": True,
    }
)


def call(prompt: str = "a lighthouse", images: tuple[FilePart, ...] = ()) -> ProviderCall:
    request = REQUEST.model_copy(update={"prompt": prompt})
    return ProviderCall(request=request, model="gpt-image-2", images=images, client_request_id="run-1:1")


def write(*events: Any) -> bytes:
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator() as running:
        yield running


@pytest.fixture
async def client(simulator: Simulator) -> AsyncIterator[ImageClient]:
    async with open_client(ProviderSettings(api_key=KEY, base_url=simulator.base_url)) as opened:
        yield opened


@asynccontextmanager
async def client_of(
    body: bytes,
    content_type: str = "text/event-stream",
    *,
    then_silent: bool = False,
    then_broken: bool = False,
    **settings: Any,
) -> AsyncIterator[ImageClient]:
    """A client whose provider answers with these bytes, and then ends, breaks off, or goes on saying nothing."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": content_type, "X-Request-Id": "req_7"})
        await response.prepare(request)
        await response.write(body)
        if then_silent:
            await asyncio.Event().wait()
        if then_broken:
            assert request.transport is not None
            request.transport.close()
        return response

    app = web.Application()
    app.router.add_post("/v1/images/generations", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    try:
        async with open_client(ProviderSettings(api_key=KEY, base_url=url, **settings)) as opened:
            yield opened
    finally:
        await runner.cleanup()


async def fail(client: ImageClient, prompt: str = "a lighthouse") -> tuple[errors.ProviderFailure, int]:
    """The failure that a call ends in, and how many partial pictures were shown before."""
    shown: list[PartialPicture] = []
    with pytest.raises(errors.ProviderFailure) as caught:
        await client.send(call(prompt), shown.append)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    return caught.value, len(shown)


async def read(client: ImageClient) -> tuple[RawAnswer, list[PartialPicture]]:
    shown: list[PartialPicture] = []
    return await client.send(call(), shown.append), shown


@pytest.mark.parametrize("operation", ["generate", "edit"])
async def test_a_stream_is_an_answer_with_pictures_before_it(
    simulator: Simulator, client: ImageClient, operation: str
) -> None:
    """Partial pictures are shown in order; the answer reads like any other, its usage verbatim, its request id kept."""
    images = (FilePart(data=make_picture("PNG", (64, 64)), media_type="image/png"),)
    shown: list[PartialPicture] = []
    raw = await client.send(call(images=images if operation == "edit" else ()), shown.append)

    (entry,) = simulator.books.entries
    answer = read_answer(raw, REQUEST)
    assert [picture.index for picture in shown] == [0, 1]
    assert (entry.partial_images, entry.client_request_id) == (2, "run-1:1")
    assert answer.usage == entry.usage
    assert len(answer.pictures) == 1
    assert (answer.size, answer.quality, answer.output_format) == ("1024x1024", "low", "png")
    assert "b64_json" not in answer.response
    assert raw.provider_request_id == entry.request_id
    assert raw.simulated


@pytest.mark.parametrize(
    ("fault", "shown", "words"),
    [
        ("stream_broken", 0, "RemoteProtocolError before the first picture"),
        ("stream_broken=1", 1, "RemoteProtocolError after 1 partial picture"),
        ("stream_broken=3", 2, "RemoteProtocolError after 2 partial pictures"),
        ("truncated", 2, "RemoteProtocolError after 2 partial pictures"),
    ],
)
async def test_a_stream_that_breaks_before_its_last_event_is_perhaps_paid(
    simulator: Simulator, client: ImageClient, fault: str, shown: int, words: str
) -> None:
    """Wherever it breaks: sent once, outcome unknown, the provider's id kept."""
    failure, count = await fail(client, f"a lighthouse [simulate:{fault}]")

    assert type(failure) is errors.AnswerLost
    assert (failure.outcome, failure.retryable, failure.detail, count) == ("unknown", True, words, shown)
    (entry,) = simulator.books.entries
    assert failure.provider_request_id == entry.request_id


@pytest.mark.parametrize(
    ("fault", "count", "events"),
    [
        ("stream_ended", 0, None),
        ("stream_ended=2", 2, "image_generation.partial_image, image_generation.partial_image"),
        ("stream_malformed", 0, "event that is not JSON"),
        ("stream_malformed=1", 1, "image_generation.partial_image, event that is not JSON"),
    ],
)
async def test_a_stream_that_came_whole_without_a_finished_picture_is_not_sent_again(
    client: ImageClient, fault: str, count: int, events: str | None
) -> None:
    """It would end like this again, and be paid each time: the failure names the events that came."""
    shown: list[PartialPicture] = []
    raw = await client.send(call(f"a lighthouse [simulate:{fault}]"), shown.append)
    with pytest.raises(errors.MalformedAnswer) as caught:
        read_answer(raw, REQUEST)
    assert (caught.value.outcome, caught.value.retryable, len(shown)) == ("unknown", False, count)
    whole = f"its stream is complete, but has no final image, only {events}"
    assert caught.value.detail == (whole if events else "it is empty")


REPORTED = Path(__file__).parent / "reported_answers"


@pytest.mark.parametrize("name", ["11-st_bifrost", "11-st_chunks", "11-st_no_type"])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("content_type", ["text/event-stream", "application/json"])
async def test_reported_streams_are_read(name: str, line_end: bytes, content_type: str) -> None:
    """Streams of real gateways that were bought three times, though each held the finished picture and its usage."""
    body = (REPORTED / f"{name}.sse").read_bytes().replace(b"\n", line_end)
    async with client_of(body, content_type) as client:
        raw, _ = await read(client)
    answer = read_answer(raw, REQUEST)
    assert len(answer.pictures) == 1
    assert answer.usage["output_tokens"] == 4160


USED = {"output_tokens": 7}


@pytest.mark.parametrize(
    ("body", "pictures", "usage", "count"),
    [
        (
            write({"type": "image.chunk", "b64_json": "UA=="}, {"type": "image.complete", **FINISHED}),
            1,
            USED,
            1,
        ),
        (write({"b64_json": "QUJD", "usage": USED}), 1, USED, 0),
        (write({"b64_json": "QUJD"}) + b"data: [DONE]\n\n", 1, None, 1),
        (write({"b64_json": "UA=="}, {"b64_json": "QUJD"}, {"type": "usage", "usage": USED}), 1, USED, 2),
        (
            write({"type": "response.done", "response": {"data": [{"b64_json": "QUJD"}], "usage": USED}}),
            1,
            USED,
            0,
        ),
        (write({"type": "x", "image": {"b64_json": "QUJD"}, "usage": USED}), 1, USED, 0),
        (write({"data": [{"b64_json": "QUJD"}]}, {"usage": USED}), 1, USED, 0),
        (write({"data": [{"b64_json": "QUJD"}, {"b64_json": "QUJD"}], "usage": USED}), 2, USED, 0),
        (write(FINISHED).removesuffix(b"\n\n"), 1, USED, 0),
        (b"data: {\n\n" + write(COMPLETED), 1, USED, 0),
        (b"\xef\xbb\xbf" + write(COMPLETED), 1, USED, 0),
        (json.dumps({"data": [{"b64_json": "QUJD"}], "usage": USED}, indent=1).encode(), 1, USED, 0),
        (write({"type": "image_generation.completed", "b64_json": "QUJD"}, {"error": "late"}), 1, None, 0),
    ],
)
async def test_a_finished_picture_is_found_under_any_name(
    body: bytes, pictures: int, usage: Any, count: int
) -> None:
    """Whatever the events are called, what holds the picture and the usage is the answer."""
    async with client_of(body) as client:
        raw, shown = await read(client)
    answer = read_answer(raw, REQUEST)
    assert (answer.pictures, answer.usage) == ((b"ABC",) * pictures, usage)
    assert len(shown) == count


async def test_several_finished_pictures_are_all_kept() -> None:
    """Each event tells a usage, and whether it is a part or the total is not known: all are kept, for a bill on hold."""
    request = REQUEST.model_copy(update={"n": 3})
    first, second = COMPLETED, {**COMPLETED, "b64_json": "REVG", "usage": {"output_tokens": 8}}
    async with client_of(write(first, second)) as client:
        raw = await client.send(
            ProviderCall(request=request, model="gpt-image-2", client_request_id="run-1:1")
        )
    answer = read_answer(raw, request)
    assert answer.pictures == (b"ABC", b"DEF")
    assert answer.usage == [{"output_tokens": 7}, {"output_tokens": 8}]
    assert answer.shortfall is not None


async def test_a_stream_that_breaks_after_a_finished_picture_delivers_it() -> None:
    """The picture was paid for, though its usage may be lost with the connection."""
    finished = {"type": "image_generation.completed", "b64_json": "QUJD"}
    async with client_of(write(finished), then_silent=True, timeout_seconds=5) as client:
        raw, _ = await read(client)
    answer = read_answer(raw, REQUEST)
    assert (answer.pictures, answer.usage) == ((b"ABC",), None)


USAGE_EVENT = {"type": "usage", "usage": USED}
INTERIM = {**PARTIAL, "usage": {"output_tokens": 1}}


@pytest.mark.parametrize(
    ("events", "response"),
    [
        ([PARTIAL, USAGE_EVENT], {"usage": USED}),
        ([INTERIM, USAGE_EVENT], {"usage": USED}),
        ([{"type": "response.done", "response": {"usage": USED}}], {"usage": USED}),
        ([PARTIAL], None),
    ],
)
async def test_usage_that_came_before_a_stream_broke_is_kept(
    events: list[Any], response: dict[str, Any] | None
) -> None:
    async with client_of(write(*events), then_broken=True) as client:
        failure, _ = await fail(client)
    assert (type(failure), failure.response) == (errors.AnswerLost, response)
    assert failure.is_charged is (response is not None)


@pytest.mark.parametrize("content_type", ["text/event-stream", "application/json"])
@pytest.mark.parametrize(
    "events", [[USAGE_EVENT, {"type": "error", "error": {"code": "slow_down"}}], [{"type": "error", "error": "no", "usage": USED}]]
)  # fmt: skip
async def test_usage_of_a_stream_that_ends_in_an_error_is_kept(events: list[Any], content_type: str) -> None:
    async with client_of(write(*events), content_type) as client:
        with pytest.raises(errors.ProviderFailure) as failed:
            read_answer((await read(client))[0], REQUEST)
    assert failed.value.is_charged
    assert failed.value.usage == USED


async def test_usage_of_a_partial_picture_alone_is_kept_and_no_bill_by_itself() -> None:
    async with client_of(write(INTERIM), then_broken=True) as client:
        failure, _ = await fail(client)
    usage, problem = limit_usage_size(failure.response, "att_1")
    assert usage == INTERIM["usage"]
    assert problem is not None
    assert "more may have been charged" in problem


async def test_picture_that_has_usage_behind_it_is_delivered_though_the_stream_breaks() -> None:
    async with client_of(
        write({"type": "image", "b64_json": "QUJD"}, USAGE_EVENT), then_broken=True
    ) as client:
        raw, _ = await read(client)
    answer = read_answer(raw, REQUEST)
    assert (answer.pictures, answer.usage) == ((b"ABC",), USED)


async def test_usage_without_a_picture_is_kept() -> None:
    async with client_of(write(PARTIAL, {"type": "done", "usage": USED})) as client:
        raw, _ = await read(client)
    with pytest.raises(errors.MalformedAnswer, match="partial_image, done") as caught:
        read_answer(raw, REQUEST)
    assert caught.value.response == {"usage": USED}


@given(st.lists(st.integers(1, 40), max_size=60))
def test_events_are_the_same_however_the_bytes_are_cut(cuts: list[int]) -> None:
    body = b": hi\r\nevent: a\r\ndata: 1\r\ndata: 2\r\n\r\nid: 7\rdata:3\r\rdata: 4\n\ndata: \xc3\xa9"
    splitter, rest = EventSplitter(), body
    found: list[StreamEvent] = []
    for cut in cuts:
        found += splitter.feed(rest[:cut])
        rest = rest[cut:]
    found += [*splitter.feed(rest), *splitter.close()]
    assert found == [
        StreamEvent("a", b"1\n2"),
        StreamEvent("", b"3"),
        StreamEvent("", b"4"),
        StreamEvent("", b"\xc3\xa9"),
    ]


async def test_a_stream_that_falls_silent_is_bounded_by_the_call() -> None:
    """Silence after a partial picture ends with the call's own time-out, as unknown."""
    async with client_of(write(PARTIAL), then_silent=True, timeout_seconds=0.5) as client:
        failure, shown = await fail(client)
    assert (type(failure), shown) == (errors.AnswerLost, 1)
    assert failure.detail in {"TimeoutError after 1 partial picture", "ReadTimeout after 1 partial picture"}
    assert failure.provider_request_id == "req_7"


@pytest.mark.parametrize(
    ("fault", "kind", "retryable"),
    [
        ("stream_error", errors.StreamFailed, True),
        ("stream_error=1", errors.StreamFailed, True),
        ("stream_error=0,error=rate_limit_exceeded", errors.RateLimited, True),
        ("stream_error=1,error=rate_limit_exceeded", errors.StreamFailed, True),
        ("stream_error=0,error=moderation_blocked", errors.OutputRefused, False),
        ("stream_error=2,error=moderation_blocked", errors.OutputRefused, False),
        ("moderation_blocked", errors.ContentRefused, False),
        ("server_error", errors.ServerError, True),
    ],
)
async def test_errors_before_and_within_a_stream(
    client: ImageClient, fault: str, kind: type[errors.ProviderFailure], *, retryable: bool
) -> None:
    """A status refuses; an event refuses only what was not begun, and else may have been paid for."""
    failure, _ = await fail(client, f"a lighthouse [simulate:{fault}]")
    assert (type(failure), failure.retryable) == (kind, retryable)
    assert failure.provider_request_id


@pytest.mark.parametrize(
    ("error", "before", "after"),
    [
        ({"code": "insufficient_quota"}, (errors.QuotaExhausted, False), (errors.StreamFailed, False)),
        ({"code": "strange", "message": 5}, (errors.StreamFailed, True), (errors.StreamFailed, True)),
        ({"code": "moderation_blocked"}, (errors.ContentRefused, False), (errors.OutputRefused, False)),
        ("a text", (errors.StreamFailed, True), (errors.StreamFailed, True)),
    ],
)
async def test_error_events_of_any_form(
    error: Any,
    before: tuple[type[errors.ProviderFailure], bool],
    after: tuple[type[errors.ProviderFailure], bool],
) -> None:
    """What refuses for good is not sent again; what nobody knows is taken as a failure of the work."""
    for events, expected in (([], before), ([PARTIAL], after)):
        async with client_of(write(*events, {"type": "error", "error": error})) as client:
            failure, _ = await fail(client)
        assert (type(failure), failure.retryable) == expected


async def test_an_error_event_without_an_object_of_its_own() -> None:
    """Some gateways write the error's fields into the event itself."""
    async with client_of(write({"type": "error", "code": "slow_down", "message": "Slow down."})) as client:
        failure, _ = await fail(client)
    assert (type(failure), failure.provider_message) == (errors.RateLimited, "Slow down.")


async def test_the_key_is_in_no_error_event() -> None:
    """An event that quotes our key is kept without it."""
    async with client_of(write({"type": "error", "error": {"message": f"Bad key {KEY}"}})) as client:
        failure, _ = await fail(client)
    assert KEY not in repr(vars(failure)) + str(failure)


async def test_events_that_nobody_knows_are_passed_over() -> None:
    """Other events, values that are no objects, and comments are no reason to lose a picture."""
    body = b": hello\n\n" + write({"type": "image_generation.thinking"}, 5, [PARTIAL], {"type": []}, None)
    async with client_of(body + write(PARTIAL, COMPLETED)) as client:
        raw, shown = await read(client)
    assert read_answer(raw, REQUEST).pictures == (b"ABC",)
    assert [picture.encoded for picture in shown] == ["QUJD"]


async def test_a_partial_picture_that_is_none_costs_nothing() -> None:
    """It is shown as it is, for others to judge, and counts; the finished picture is read."""
    async with client_of(
        write({**PARTIAL, "b64_json": None}, {"type": PARTIAL["type"]}, COMPLETED)
    ) as client:
        raw, shown = await read(client)
    assert [(picture.index, picture.encoded) for picture in shown] == [(0, ""), (1, "")]
    assert read_answer(raw, REQUEST).usage == {"output_tokens": 7}


async def test_what_follows_the_last_event_is_not_waited_for() -> None:
    """The finished picture ends the call, though the connection stays open."""
    async with client_of(write(COMPLETED), then_silent=True) as client:
        raw, _ = await read(client)
    assert read_answer(raw, REQUEST).pictures == (b"ABC",)


async def test_a_last_event_without_a_picture_keeps_its_usage() -> None:
    """It cannot be used, and what it says was charged is kept."""
    async with client_of(
        write({"type": "image_generation.completed", "usage": {"output_tokens": 7}})
    ) as client:
        raw, _ = await read(client)
    with pytest.raises(errors.MalformedAnswer, match=r"data\[0\] has no b64_json") as caught:
        read_answer(raw, REQUEST)
    assert caught.value.response
    assert caught.value.response["usage"] == {"output_tokens": 7}


async def test_a_gateway_that_does_not_stream_is_read_as_a_whole() -> None:
    """An answer without a stream was paid for like any other: nothing is shown, and its picture is kept."""
    body = b'{"data": [{"b64_json": "QUJD"}], "usage": {"output_tokens": 7}}'
    async with client_of(body, "application/json") as client:
        raw, shown = await read(client)
    assert (raw.body, shown) == (body, [])


async def test_a_cancelled_stream_raises_the_cancellation() -> None:
    """Whoever cancels learns that it was cancelled."""
    arrived = asyncio.Event()
    async with client_of(write(PARTIAL), then_silent=True) as client:
        sending = asyncio.create_task(client.send(call(), lambda _: arrived.set()))
        await arrived.wait()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending


async def test_nothing_is_streamed_that_nobody_asked_to_see(
    simulator: Simulator, client: ImageClient
) -> None:
    """Without partial pictures the request says nothing of a stream."""
    request = REQUEST.model_copy(update={"partial_images": None, "stream": None})
    await client.send(ProviderCall(request=request, model="gpt-image-2", client_request_id="run-1:1"))
    assert simulator.books.entries[0].partial_images is None
