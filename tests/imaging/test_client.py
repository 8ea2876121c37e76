"""The client against a real HTTP server that answers what each test says, through the real SDK."""

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import BodyPartReader, web

from contracts.request import ImageRequest
from imaging import errors, failed_answers
from imaging.client import FilePart, ImageClient, ProviderCall, ProviderSettings, open_client

KEY = "sk-proj-0123456789abcdefghijklmnop"
OK = b'{"data": [{"b64_json": "QUJD"}]}'
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Received:
    """One HTTP request as it arrived; `parts` are (name, file name, content type, data) of a multipart body."""

    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    peer: tuple[str, int]
    body: Any = None
    parts: list[tuple[str, str | None, str | None, bytes]] = field(default_factory=list)


@dataclass
class ScriptedProvider:
    """An HTTP server whose every request is answered by `handler`."""

    url: str = ""
    handler: Handler | None = None
    received: list[Received] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Notes the request, then does what the test says."""
        self.received.append(await read(request))
        assert self.handler is not None
        return await self.handler(request)

    def answers(self, status: int = 200, body: bytes = OK, headers: dict[str, str] | None = None) -> None:
        """Answers every request the same."""

        async def handler(_: web.Request) -> web.StreamResponse:
            return web.Response(status=status, body=body, headers=headers)

        self.handler = handler


async def read(request: web.Request) -> Received:
    peer = request.transport.get_extra_info("peername") if request.transport else ("", 0)
    received = Received(request.path, dict(request.query), request.headers, peer)
    if request.content_type == "application/json":
        received.body = await request.json()
    elif request.content_type == "multipart/form-data":
        async for part in await request.multipart():
            assert isinstance(part, BodyPartReader)
            content_type = part.headers.get("Content-Type")
            received.parts.append((part.name or "", part.filename, content_type, bytes(await part.read())))
    return received


@pytest.fixture
async def provider() -> AsyncIterator[ScriptedProvider]:
    provider = ScriptedProvider()
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_route("*", "/{path:.*}", provider.answer)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    listener = socket.create_server(("127.0.0.1", 0))
    provider.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    await web.SockSite(runner, listener).start()
    yield provider
    await runner.cleanup()


@pytest.fixture
async def client(provider: ScriptedProvider) -> AsyncIterator[ImageClient]:
    async with open_client(ProviderSettings(api_key=KEY, base_url=f"{provider.url}/v1")) as client:
        yield client


def call(**fields: Any) -> ProviderCall:
    """A generation with the least that a request needs, and whatever is given beside."""
    request = ImageRequest.model_validate({"model": "gpt-image-1", "prompt": "a lighthouse", **fields})
    return ProviderCall(request=request, model="gpt-image-2", client_request_id="image:acme:req-1:1")


def edit(images: tuple[FilePart, ...], mask: FilePart | None = None, **fields: Any) -> ProviderCall:
    request = ImageRequest.model_validate(
        {"model": "gpt-image-1", "prompt": "a lighthouse", "images": ["store:a"], **fields}
    )
    return ProviderCall(
        request=request, model="gpt-image-2", images=images, mask=mask, client_request_id="image:acme:req-1:1"
    )


PNG = FilePart(data=b"\x89PNG one", media_type="image/png")
JPEG = FilePart(data=b"\xff\xd8 two", media_type="image/jpeg")
WEBP = FilePart(data=b"RIFF three", media_type="image/webp")
MASK = FilePart(data=b"\x89PNG mask", media_type="image/png")


async def test_an_answer_comes_back_as_it_was_sent(provider: ScriptedProvider, client: ImageClient) -> None:
    """Body, status, request id and headers are the provider's, cookies left out; the answer is not parsed."""
    body = b" not even JSON "
    provider.answers(body=body, headers={"X-Request-Id": "req_7", "X-Simulated": "true", "Set-Cookie": "a=b"})
    answer = await client.send(call())
    assert answer.body == body
    assert answer.http_status == 200
    assert answer.provider_request_id == "req_7"
    assert answer.headers["x-request-id"] == "req_7"
    assert "set-cookie" not in answer.headers
    assert answer.simulated
    assert answer.latency_ms >= 0
    assert answer.sent_at.tzinfo is not None


async def test_an_answer_is_simulated_only_where_it_says_so(
    provider: ScriptedProvider, client: ImageClient
) -> None:
    """Without the header, an answer is a real provider's."""
    provider.answers()
    answer = await client.send(call())
    assert not answer.simulated
    assert answer.provider_request_id is None


async def test_only_what_the_request_names_is_sent(provider: ScriptedProvider, client: ImageClient) -> None:
    """Unset options and everything that is ours stay here; the model is the one to call, not the one asked for."""
    provider.answers()
    await client.send(
        call(
            tenant="acme",
            request_id="req-1",
            missing_usage="hold",
            unknown_outcome="hold",
            metadata={"order": "7"},
            n=2,
        )
    )
    (received,) = provider.received
    assert received.path == "/v1/images/generations"
    assert received.body == {"prompt": "a lighthouse", "model": "gpt-image-2", "n": 2}
    assert received.headers["Authorization"] == f"Bearer {KEY}"
    assert received.headers["X-Client-Request-Id"] == "image:acme:req-1:1"


async def test_every_option_is_sent_as_it_is(provider: ScriptedProvider, client: ImageClient) -> None:
    """The provider's payload arrives field by field, zero included."""
    provider.answers()
    options = {
        "n": 1,
        "size": "1024x1024",
        "quality": "high",
        "background": "auto",
        "output_format": "webp",
        "output_compression": 0,
        "moderation": "low",
        "safety_identifier": "someone",
        "user": "somebody",
    }
    await client.send(call(**options))
    assert provider.received[0].body == {"prompt": "a lighthouse", "model": "gpt-image-2", **options}


async def test_an_edit_is_a_form_with_named_pictures(provider: ScriptedProvider, client: ImageClient) -> None:
    """Pictures in their order with the right names and types, the mask, and the options as text."""
    provider.answers()
    await client.send(
        edit((PNG, JPEG, WEBP), MASK, n=2, size="auto", input_fidelity="high", moderation="low")
    )
    (received,) = provider.received
    assert received.path == "/v1/images/edits"
    assert received.headers["X-Client-Request-Id"] == "image:acme:req-1:1"
    files = [part for part in received.parts if part[1]]
    assert files == [
        ("image[]", "image-1.png", "image/png", PNG.data),
        ("image[]", "image-2.jpg", "image/jpeg", JPEG.data),
        ("image[]", "image-3.webp", "image/webp", WEBP.data),
        ("mask", "mask.png", "image/png", MASK.data),
    ]
    assert {name: data for name, filename, _, data in received.parts if not filename} == {
        "prompt": b"a lighthouse",
        "model": b"gpt-image-2",
        "n": b"2",
        "size": b"auto",
        "input_fidelity": b"high",
        "moderation": b"low",
    }


async def test_one_picture_is_sent_as_one(provider: ScriptedProvider, client: ImageClient) -> None:
    """A single picture goes by the plain name, and no mask is sent where there is none."""
    provider.answers()
    await client.send(edit((JPEG,)))
    files = [part for part in provider.received[0].parts if part[1]]
    assert files == [("image", "image-1.jpg", "image/jpeg", JPEG.data)]


async def test_each_call_has_its_own_connection(provider: ScriptedProvider, client: ImageClient) -> None:
    """No connection is kept that the other side might be closing when the next request is written to it."""
    provider.answers()
    await client.send(call())
    await client.send(call())
    first, second = provider.received
    assert first.peer != second.peer


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.InvalidRequest),
        (401, errors.AuthenticationFailed),
        (408, errors.RequestTimeout),
        (409, errors.Conflict),
        (429, errors.RateLimited),
        (500, errors.ServerError),
        (502, errors.GatewayError),
        (503, errors.ServerOverloaded),
    ],
)
async def test_a_refusal_is_one_request_and_one_failure(
    provider: ScriptedProvider, client: ImageClient, status: int, kind: type[errors.ProviderFailure]
) -> None:
    """Nothing is repeated behind our back, even where the provider asks for it."""
    headers = {"x-should-retry": "true", "retry-after": "0", "x-request-id": "req_7"}
    provider.answers(status, b'{"error": {"message": "No.", "code": null}}', headers)
    with pytest.raises(errors.ProviderFailure) as caught:
        await client.send(call())
    assert type(caught.value) is kind
    assert caught.value.provider_message == "No."
    assert caught.value.provider_request_id == "req_7"
    assert caught.value.retry_after_seconds == 0.0
    assert len(provider.received) == 1


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_not_followed(
    provider: ScriptedProvider, client: ImageClient, status: int
) -> None:
    """A followed redirect would be a second paid request."""
    provider.answers(status, b"", {"Location": f"{provider.url}/elsewhere"})
    with pytest.raises(errors.UnexpectedRedirect):
        await client.send(call())
    assert len(provider.received) == 1


async def test_nothing_is_sent_where_nobody_listens() -> None:
    """A refused connection is free and safe to repeat, and says where to look."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    async with open_client(ProviderSettings(api_key=KEY, base_url=f"http://127.0.0.1:{port}/v1")) as client:
        with pytest.raises(errors.ConnectionFailed, match="Check the network and OPENAI_BASE_URL") as caught:
            await client.send(call())
    assert (caught.value.outcome, caught.value.retryable) == ("not_sent", True)


async def test_nothing_is_sent_while_no_connection_is_free(provider: ScriptedProvider) -> None:
    """Waiting for a connection in vain is free, too."""
    release = asyncio.Event()
    arrived = asyncio.Event()

    async def hold(_: web.Request) -> web.StreamResponse:
        arrived.set()
        await release.wait()
        return web.Response(body=OK)

    provider.handler = hold
    settings = ProviderSettings(
        api_key=KEY, base_url=f"{provider.url}/v1", max_connections=1, connect_timeout_seconds=0.2
    )
    async with open_client(settings) as client:
        first = asyncio.create_task(client.send(call()))
        await arrived.wait()
        with pytest.raises(errors.ConnectionFailed, match="PoolTimeout"):
            await client.send(call())
        release.set()
        assert (await first).body == OK
    assert len(provider.received) == 1


async def cut_off(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def cut_short(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b'{"data": [')
    assert request.transport is not None
    request.transport.abort()
    return response


async def garble(request: web.Request) -> web.StreamResponse:
    return web.Response(body=b"not gzip", headers={"Content-Encoding": "gzip"})


@pytest.mark.parametrize("handler", [cut_off, cut_short, garble])
async def test_an_answer_that_breaks_off_is_perhaps_paid(
    provider: ScriptedProvider, client: ImageClient, handler: Handler
) -> None:
    """A reset after the request was read, a body cut short, a garbled one: sent once, outcome unknown."""
    provider.handler = handler
    with pytest.raises(errors.AnswerLost) as caught:
        await client.send(call())
    assert caught.value.outcome == "unknown"
    assert len(provider.received) == 1


@pytest.mark.parametrize("charset", ["hex", "utf-16"])
async def test_a_refusal_is_one_in_whatever_charset(
    provider: ScriptedProvider, client: ImageClient, charset: str
) -> None:
    """A charset that no text has costs a failed answer neither its status nor its words."""
    body = b'{"error": {"message": "No such size."}}'
    provider.answers(400, body, {"Content-Type": f"text/html; charset={charset}"})
    with pytest.raises(errors.InvalidRequest, match="No such size") as caught:
        await client.send(call())
    assert (caught.value.outcome, caught.value.http_status) == ("rejected", 400)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


async def cut_words_short(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(status=429, headers={"Content-Length": "1000", "Retry-After": "7"})
    await response.prepare(request)
    await response.write(b'{"error": {')
    assert request.transport is not None
    request.transport.abort()
    return response


async def garble_words(_: web.Request) -> web.StreamResponse:
    headers = {"Content-Encoding": "gzip", "Retry-After": "7"}
    return web.Response(status=429, body=b"not gzip", headers=headers)


async def never_end_words(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(status=429, headers={"Retry-After": "7"})
    await response.prepare(request)
    return await stay_silent(request)


@pytest.mark.parametrize("handler", [cut_words_short, garble_words, never_end_words])
async def test_a_status_that_says_it_all_needs_no_words(
    provider: ScriptedProvider, client: ImageClient, monkeypatch: pytest.MonkeyPatch, handler: Handler
) -> None:
    """A rate limit whose body breaks off, is garbled or does not end is a rate limit: nothing was carried out."""
    monkeypatch.setattr(failed_answers, "_PATIENCE", timedelta(seconds=0.3))
    provider.handler = handler
    with pytest.raises(errors.RateLimited) as caught:
        await client.send(call())
    assert (caught.value.outcome, caught.value.http_status) == ("rejected", 429)
    assert caught.value.retry_after_seconds == 7
    assert len(provider.received) == 1


async def test_a_refusal_whose_words_break_off_is_perhaps_paid(
    provider: ScriptedProvider, client: ImageClient
) -> None:
    """With status 400 it may be the finished picture that was refused, and only the words tell."""

    async def cut(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=400, headers={"Content-Length": "1000"})
        await response.prepare(request)
        assert request.transport is not None
        request.transport.abort()
        return response

    provider.handler = cut
    with pytest.raises(errors.AnswerLost):
        await client.send(call())


async def test_of_a_failed_answer_no_more_is_read_than_anybody_needs(
    provider: ScriptedProvider, client: ImageClient
) -> None:
    """A gateway that sends a page without end costs neither the worker's memory nor the call's whole time."""

    async def go_on(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=502)
        await response.prepare(request)
        while True:
            await response.write(b"no end " * 10_000)

    provider.handler = go_on
    with pytest.raises(errors.GatewayError, match="no end") as caught:
        await client.send(call())
    assert caught.value.http_status == 502


async def test_a_failed_answer_that_cannot_be_read_keeps_no_connection(provider: ScriptedProvider) -> None:
    """Encoded more often than anybody decodes, it frees the only connection for the next call."""
    settings = ProviderSettings(
        api_key=KEY, base_url=f"{provider.url}/v1", max_connections=1, connect_timeout_seconds=5
    )
    async with open_client(settings) as client:
        provider.answers(500, headers={"Content-Encoding": ", ".join(["gzip"] * 8)})
        with pytest.raises(errors.AnswerLost):
            await client.send(call())
        provider.answers()
        assert (await client.send(call())).body == OK


async def stay_silent(_: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    return web.Response()


async def trickle(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" ")
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("handler", [stay_silent, trickle])
async def test_an_answer_that_takes_too_long_is_perhaps_paid(
    provider: ScriptedProvider, handler: Handler
) -> None:
    """The time-out bounds the whole call, so that a trickle of bytes does not outlive it either."""
    provider.handler = handler
    settings = ProviderSettings(api_key=KEY, base_url=f"{provider.url}/v1", timeout_seconds=0.3)
    async with open_client(settings) as client:
        with pytest.raises(errors.AnswerLost) as caught:
            await client.send(call())
    assert caught.value.outcome == "unknown"
    assert len(provider.received) == 1


async def test_a_cancelled_call_raises_the_cancellation(
    provider: ScriptedProvider, client: ImageClient
) -> None:
    """Whoever cancels learns that it was cancelled, not that it timed out."""
    arrived = asyncio.Event()

    async def hold(request: web.Request) -> web.StreamResponse:
        arrived.set()
        return await stay_silent(request)

    provider.handler = hold
    sending = asyncio.create_task(client.send(call()))
    await arrived.wait()
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending


async def test_the_key_appears_nowhere(
    provider: ScriptedProvider, client: ImageClient, caplog: pytest.LogCaptureFixture
) -> None:
    """Not in a repr, not in a failure where the provider quotes it, not in what the failure came from, not in a log."""
    caplog.set_level(logging.DEBUG)
    message = f"Incorrect API key provided: {KEY}."
    provider.answers(401, json.dumps({"error": {"message": message, "code": "invalid_api_key"}}).encode())
    with pytest.raises(errors.AuthenticationFailed) as caught:
        await client.send(call())
    assert "Incorrect API key provided: [API key]." in str(caught.value)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    shown = [repr(ProviderSettings(api_key=KEY)), repr(client), repr(vars(caught.value)), caplog.text]
    assert all(KEY not in text for text in shown)


async def test_the_key_is_in_no_answer_without_pictures(
    provider: ScriptedProvider, client: ImageClient
) -> None:
    """Some gateways answer an error with 200, and quote the key: what is kept and told of the answer is without it."""
    provider.answers(body=json.dumps({"error": {"message": f"Incorrect API key provided: {KEY}."}}).encode())
    answer = await client.send(call())
    assert json.loads(answer.body) == {"error": {"message": "Incorrect API key provided: [API key]."}}


async def test_a_key_that_looks_like_pixels_changes_no_picture(provider: ScriptedProvider) -> None:
    """A placeholder for gateways without keys may be part of a picture's base64."""
    body = b'{"data": [{"b64_json": "QUFBQUFBQUFBQUFBQUFBQUFB"}]}'
    provider.answers(body=body)
    settings = ProviderSettings(api_key="QUFBQUFBQUFBQUFB", base_url=f"{provider.url}/v1")
    async with open_client(settings) as client:
        assert (await client.send(call())).body == body


async def test_azure_has_its_own_addresses_and_header(provider: ScriptedProvider) -> None:
    """On Azure the model names a deployment in the path, the version is asked for, and the key has a header of its own."""
    provider.answers(headers={"apim-request-id": "azure-7"})
    settings = ProviderSettings(api_key=KEY, azure_endpoint=provider.url, azure_api_version="2026-04-01")
    async with open_client(settings) as client:
        answer = await client.send(call())
        await client.send(edit((PNG,)))
    generation, edition = provider.received
    assert generation.path == "/openai/deployments/gpt-image-2/images/generations"
    assert edition.path == "/openai/deployments/gpt-image-2/images/edits"
    assert generation.query == edition.query == {"api-version": "2026-04-01"}
    assert generation.headers["api-key"] == KEY
    assert "Authorization" not in generation.headers
    assert answer.provider_request_id == "azure-7"


async def test_the_settings_alone_say_where_requests_go(
    provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDK's own reading of the environment does not move requests, and blanks around a key do not break it."""
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "another")
    provider.answers()
    async with open_client(ProviderSettings(api_key=f" {KEY}\n", base_url=f"{provider.url}/v1")) as client:
        await client.send(call())
    assert provider.received[0].headers["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (ProviderSettings(api_key=None), "there is no API key, set OPENAI_API_KEY"),
        (ProviderSettings(api_key=" \n"), "there is no API key, set OPENAI_API_KEY"),
        (ProviderSettings(api_key="sk one"), "OPENAI_API_KEY holds a blank"),
        (ProviderSettings(api_key="sk-\u2026"), "OPENAI_API_KEY holds a blank"),
        (
            ProviderSettings(api_key=KEY, base_url="api.openai.com/v1"),
            "OPENAI_BASE_URL is 'api.openai.com/v1'",
        ),
        (ProviderSettings(api_key=KEY, base_url="ftp://x"), "OPENAI_BASE_URL is 'ftp://x'"),
        (ProviderSettings(api_key=KEY, base_url="http://x:port"), "OPENAI_BASE_URL is 'http://x:port'"),
        (
            ProviderSettings(api_key=KEY, azure_endpoint="mine", azure_api_version="1"),
            "AZURE_OPENAI_ENDPOINT is 'mine'",
        ),
        (ProviderSettings(api_key=KEY, azure_endpoint="https://x"), "set OPENAI_API_VERSION"),
        (
            ProviderSettings(
                api_key=KEY, azure_endpoint="https://x", azure_api_version="1", base_url="https://y"
            ),
            "are both set",
        ),
    ],
)
def test_a_setting_that_cannot_work_is_refused(settings: ProviderSettings, sentence: str) -> None:
    """One sentence names the setting and what to write; nothing is sent, and repeating does not help."""
    with pytest.raises(errors.ProviderNotConfigured, match=sentence) as caught:
        open_client(settings)
    assert (caught.value.outcome, caught.value.retryable) == ("not_sent", False)
