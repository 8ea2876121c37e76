"""No answer takes more memory than what was asked for can bring, however small it is on the wire."""

import gzip
import json
import tracemalloc
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any

import pytest
from aiohttp import web

from gpt_image_runs.provider import body_limits, errors
from gpt_image_runs.provider.batch_api import BatchClient, open_batch_client
from gpt_image_runs.provider.body_limits import MIB, find_usage, max_picture_answer
from gpt_image_runs.provider.client import ImageClient, ProviderSettings
from gpt_image_runs.provider.usage_api import BooksSettings, BooksUnreadable, ProviderBooks
from tests.support.files.picture_files import make_picture
from tests.support.servers.scripted_provider import KEY, OK, ScriptedProvider, call

USAGE = {"input_tokens": 50, "output_tokens": 4160}
EXPANDED = 256 * MIB
"""As much as a body of some 256 KB expands to; each limit here is far below."""
MAX_MEMORY = 24 * MIB


@pytest.fixture
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture is 1 MiB at most, so that what is too large is small enough for a test."""
    monkeypatch.setattr(body_limits, "_MAX_PICTURE", MIB)
    monkeypatch.setattr(body_limits, "_OVERHEAD", MIB)
    monkeypatch.setattr(body_limits, "MAX_JSON_BODY", MIB)


@pytest.fixture
def memory() -> Iterator[None]:
    """Fails where more memory was in use at once than a bounded reading takes."""
    tracemalloc.start()
    yield
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < MAX_MEMORY


def compress(start: bytes, filling: bytes = b" ") -> bytes:
    """A gzip file of `start` and then the filling, `EXPANDED` bytes of it, made a piece at a time."""
    compressor = zlib.compressobj(wbits=31)
    pieces = [compressor.compress(start)]
    pieces += [compressor.compress(filling * MIB) for _ in range(EXPANDED // MIB)]
    return b"".join((*pieces, compressor.flush()))


BOMB = compress(b'{"usage": ' + json.dumps(USAGE).encode() + b', "data": [{"b64_json": "', b"A")


def bomb(status: int, content_type: str = "application/json", start: bytes | None = None) -> dict[str, Any]:
    body = BOMB if start is None else compress(start)
    return {
        "status": status,
        "body": body,
        "headers": {"Content-Encoding": "gzip", "Content-Type": content_type, "x-request-id": "req_7"},
    }


@pytest.mark.usefixtures("small_limits", "memory")
async def test_a_success_that_expands_without_end_is_a_named_failure_with_its_usage(
    provider: ScriptedProvider, client: ImageClient
) -> None:
    """It may have been paid, so its beginning is kept, and the usage where that has it."""
    provider.answers(**bomb(200))

    with pytest.raises(errors.MalformedAnswer) as caught:
        await client.send(call())

    assert caught.value.detail == (
        "the body has more than 2,446,677 bytes, more than the picture that was asked for can have; the rest was not read"
    )
    assert caught.value.response == {"usage": USAGE}
    assert len(caught.value.raw_body or b"") == errors.MAX_RAW_BODY
    assert (caught.value.outcome, caught.value.provider_request_id) == ("unknown", "req_7")
    assert len(provider.received) == 1


@pytest.mark.usefixtures("small_limits", "memory")
@pytest.mark.parametrize(
    ("start", "usage"),
    [
        (b"data: ", None),
        (b": ", None),
        (b"event: image\n", None),
        (b'data: {"usage": {"output_tokens": 7}}\n\n: ', {"usage": {"output_tokens": 7}}),
    ],
)
async def test_a_stream_that_expands_without_end_is_a_named_failure(
    provider: ScriptedProvider, client: ImageClient, start: bytes, usage: Any
) -> None:
    provider.answers(**bomb(200, "text/event-stream", start))

    with pytest.raises(errors.MalformedAnswer, match="more than 5,242,880 bytes") as caught:
        await client.send(call(partial_images=2))
    assert caught.value.response == usage


@pytest.mark.usefixtures("small_limits", "memory")
async def test_picture_that_came_before_a_stream_went_on_without_end_is_kept(
    provider: ScriptedProvider, client: ImageClient
) -> None:
    picture = make_picture("PNG", (64, 64))
    usage = {"input_tokens": 10, "output_tokens": 272, "total_tokens": 282}
    event = {"type": "image_generation.completed", "b64_json": b64encode(picture).decode(), "usage": usage}
    start = f"data: {json.dumps(event)}\n\n: ".encode()
    provider.answers(**bomb(200, "text/event-stream", start))

    raw = await client.send(call(n=2, partial_images=1))

    answer = json.loads(raw.body)
    assert [b64decode(item["b64_json"]) for item in answer["data"]] == [picture]
    assert answer["usage"] == usage


@pytest.mark.usefixtures("memory")
@pytest.mark.parametrize(
    ("status", "kind"), [(400, errors.InvalidRequest), (429, errors.RateLimited), (500, errors.GatewayError)]
)
async def test_a_refusal_that_expands_without_end_is_read_to_a_bound(
    provider: ScriptedProvider, client: ImageClient, status: int, kind: type[errors.ProviderFailure]
) -> None:
    provider.answers(**bomb(status))

    with pytest.raises(kind) as caught:
        await client.send(call())

    assert type(caught.value) is kind


@pytest.mark.usefixtures("small_limits", "memory")
async def test_a_body_without_end_is_not_read_to_its_end(
    provider: ScriptedProvider, client: ImageClient
) -> None:
    """Uncompressed, in pieces: the reading stops at the bound, and so does the sending."""
    sent = 0

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"A" * MIB)
            sent += MIB

    provider.handler = handler
    with pytest.raises(errors.MalformedAnswer, match="more than 2,446,677 bytes"):
        await client.send(call())
    assert sent < EXPANDED


@pytest.mark.usefixtures("small_limits", "memory")
@pytest.mark.parametrize("status", [200, 400, 500])
async def test_what_is_read_about_batches_is_bounded(provider: ScriptedProvider, status: int) -> None:
    provider.answers(**bomb(status))
    settings = ProviderSettings(api_key=KEY, base_url=f"{provider.url}/v1")
    async with open_batch_client(settings) as batches:
        for ask in (batches.look("batch_1"), batches.find({}, datetime(2026, 11, 1, tzinfo=UTC))):
            with pytest.raises(errors.ProviderFailure):
                await ask
        if status != 200:
            with pytest.raises(errors.ProviderFailure):
                await read_first_line(batches)


@pytest.mark.usefixtures("small_limits", "memory")
async def test_a_line_of_a_result_file_is_bounded_by_what_its_request_can_bring(
    provider: ScriptedProvider,
) -> None:
    provider.answers(**bomb(200))
    settings = ProviderSettings(api_key=KEY, base_url=f"{provider.url}/v1")
    async with open_batch_client(settings) as batches:
        with pytest.raises(errors.MalformedAnswer, match="longer than 2,446,677 bytes"):
            await read_first_line(batches)


async def read_first_line(batches: BatchClient) -> None:
    async for _ in batches.read_lines("file-1", pictures=1):
        return


@pytest.mark.usefixtures("memory")
@pytest.mark.parametrize(
    ("status", "words"), [(200, "more than 1,048,576 bytes"), (401, "refuses the admin key")]
)
async def test_pages_of_the_usage_api_are_bounded(
    provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch, status: int, words: str
) -> None:
    for module in ("gpt_image_runs.provider.body_limits", "gpt_image_runs.provider.usage_api"):
        monkeypatch.setattr(f"{module}.MAX_JSON_BODY", MIB)
    provider.answers(**bomb(status))
    books = ProviderBooks(BooksSettings(admin_key="sk-admin-0123456789", base_url=f"{provider.url}/v1"))
    midnight = datetime(2026, 11, 23, tzinfo=UTC)

    with pytest.raises(Exception, match=words) as caught:
        await books.read_day(date(2026, 11, 23), midnight, midnight, project_id=None, api_key_id=None)
    assert isinstance(caught.value, BooksUnreadable) is (status == 200)


async def test_no_encoding_is_asked_for_and_one_that_comes_is_read(
    provider: ScriptedProvider, client: ImageClient
) -> None:
    """Some gateways compress whatever is asked: the picture was paid for, and is taken."""
    provider.answers(200, gzip.compress(OK), {"Content-Encoding": "gzip"})

    assert (await client.send(call())).body == OK
    assert provider.received[0].headers["Accept-Encoding"] == "identity"


async def test_the_largest_pictures_fit(provider: ScriptedProvider, client: ImageClient) -> None:
    """3840x2160 with alpha that nothing compresses, in base64, in lines."""
    pixels = 3840 * 2160 * 4
    encoded = pixels * 4 // 3 * 78 // 76

    assert encoded * 10 + 4 * MIB < max_picture_answer(10) < 512 * MIB
    provider.answers(200, OK + b" " * encoded)
    assert len((await client.send(call())).body) == len(OK) + encoded


@pytest.mark.parametrize(
    ("start", "usage"),
    [
        (b'{"created": 1, "usage" : {"a": {"b": 1}}, "data": [', {"a": {"b": 1}}),
        (b'{"data": [{"revised_prompt": "\\"usage\\": {}"}], "usage": {"c": 2}', {"c": 2}),
        (b'{"usage": {"a": 1', None),
        (b'{"usage": [' + b"[" * 100_000, None),
        (b'{"usage": ' + b'{"a":' * 100_000, None),
        (b'{"usage": null, "data"', None),
        (b'"usage"', None),
        (b"", None),
    ],
)
def test_the_usage_of_a_beginning_is_found_where_it_is_whole(start: bytes, usage: Any) -> None:
    assert find_usage(start) == usage
