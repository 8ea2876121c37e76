"""What the client makes of refusals, broken answers and silence: one request, one failure, and whether it may have been paid."""

import asyncio
import socket
from datetime import timedelta

import pytest
from aiohttp import web

from gpt_image_runs.provider import errors
from gpt_image_runs.provider import sdk as failed_answers
from gpt_image_runs.provider.client import ImageClient, ProviderSettings, open_client
from tests.support.servers.scripted_provider import (
    KEY,
    OK,
    Handler,
    ScriptedProvider,
    call,
)


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
async def test_refusal_in_any_charset_is_classified(
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
async def test_decisive_status_with_a_broken_body_is_classified(
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


async def test_error_400_with_a_broken_body_is_perhaps_paid(
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
