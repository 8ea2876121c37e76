"""Client for the Images API: each `send` is one HTTP request and ends in a complete response or a `ProviderFailure`.

Nothing is repeated or recorded here. Successful responses are parsed by `gpt_image_runs.provider.responses`.
"""

import asyncio
import time
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from types import TracebackType
from typing import IO, Any, Self, cast

import httpx2
import openai
from openai import AsyncAPIResponse

from gpt_image_runs.contracts.images import MediaType
from gpt_image_runs.images.input_memory import Upload
from gpt_image_runs.provider.body_limits import BodyTooLarge, bound_body, find_usage, max_picture_answer
from gpt_image_runs.provider.calls import FilePart, PartialPicture, ProviderCall, RawAnswer, request_options
from gpt_image_runs.provider.early_answers import was_cut_short
from gpt_image_runs.provider.error_mapping import (
    classify_answer,
    classify_transport,
    read_provider_request_id,
    without_doubt,
)
from gpt_image_runs.provider.errors import MAX_RAW_BODY, MalformedAnswer, ProviderFailure
from gpt_image_runs.provider.responses import Show, StreamedAnswer, is_stream
from gpt_image_runs.provider.sdk import (
    FailedAnswer,
    ProviderSettings,
    check_settings,
    hide_key,
    open_sdk,
    refuse_failed,
)

__all__ = [
    "FilePart",
    "ImageClient",
    "PartialPicture",
    "ProviderCall",
    "ProviderSettings",
    "RawAnswer",
    "open_client",
]

_EXTENSIONS: dict[MediaType, str] = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}


def _show_nobody(_: PartialPicture) -> None: ...


def open_client(settings: ProviderSettings) -> "ImageClient":
    """Create a client. It connects when it is first used.

    Raises:
        ProviderNotConfigured: a setting is missing or cannot work.
    """
    check_settings(settings)
    return ImageClient(open_sdk(settings, refuse_failed), timeout_seconds=settings.timeout_seconds)


class ImageClient:
    """Sends image requests through the SDK with retries turned off. Create it with `open_client`; close it after use."""

    def __init__(self, sdk: openai.AsyncOpenAI, *, timeout_seconds: float) -> None:
        self._sdk = sdk
        self._timeout_seconds = timeout_seconds

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections. Requests in progress fail."""
        await self._sdk.close()

    @property
    def address(self) -> str:
        """The base URL that requests go to."""
        return str(self._sdk.base_url)

    async def send(self, call: ProviderCall, show: Show = _show_nobody) -> RawAnswer:
        """Send exactly one HTTP request and wait for the complete response.

        If the request asks for partial images, each is passed to `show` as it arrives. The returned body is then that of the same
        request without streaming. Only the call's own timeout limits how long the provider may be silent: the provider charges
        for a request even after the connection is closed.

        Raises:
            ProviderFailure: the response is not 2xx; its class and `outcome` say what that means. If the task is cancelled while
                it waits, the cancellation is raised and the outcome is unknown.
        """
        sent_at = datetime.now(UTC)
        started = time.monotonic()
        response, body = await self._request(call, show)
        return RawAnswer(
            body=await self._hide_key(body),
            headers=_without_cookies(response.headers),
            http_status=response.status_code,
            provider_request_id=read_provider_request_id(response.headers),
            latency_ms=round((time.monotonic() - started) * 1000),
            simulated=response.headers.get("x-simulated") == "true",
            sent_at=sent_at,
        )

    async def _request(self, call: ProviderCall, show: Show) -> tuple[httpx2.Response, bytes]:
        failure: ProviderFailure
        streamed: StreamedAnswer | None = None
        came = bytearray()
        try:
            # The transport's time-out starts again with every packet; this one bounds the call.
            async with asyncio.timeout(self._timeout_seconds):
                async with self._post(call) as raw:
                    response = raw.http_response
                    bound_body(response, _max_answer(call))
                    if not is_stream(response):
                        async for piece in response.aiter_bytes():
                            # Put together while it comes: the SDK would hold all pieces beside it, dozens of megabytes at a time.
                            came += piece
                        return response, bytes(came)
                    streamed = StreamedAnswer(response, show, call.request.image_count)
                    return response, await streamed.read()
        except FailedAnswer as error:
            response = error.response
            body = hide_key(error.body, self._sdk.api_key)
            failure = classify_answer(response.status_code, response.headers, body, datetime.now(UTC))
            if was_cut_short(response):
                failure = without_doubt(failure)
        except BodyTooLarge as error:
            rescued = await streamed.rescue() if streamed else None
            if streamed and rescued is not None:
                return streamed.response, rescued
            failure = _describe_too_large(error, call, await self._hide_key(came))
            if streamed:
                failure.response = streamed.find_reported(self._sdk.api_key)
        except Exception as error:  # noqa: BLE001 - whatever breaks once sending has begun may have been paid
            rescued = await streamed.rescue() if streamed else None
            if streamed and rescued is not None:
                return streamed.response, rescued
            failure = (
                streamed.describe_break(error, self._sdk.api_key)
                if streamed
                else _describe_break(error, await self._hide_key(came))
            )
        # Outside of the except clauses, so that the SDK's error is not its context: that one's text goes into logs
        # and histories with it, and may quote the prompt or the key.
        raise failure

    async def _hide_key(self, body: bytes | bytearray) -> bytes:
        return await asyncio.to_thread(hide_key, bytes(body), self._sdk.api_key)

    def _post(self, call: ProviderCall) -> AbstractAsyncContextManager[AsyncAPIResponse[Any]]:
        """Build the request. It is sent when the context is entered, which returns the SDK's unread response."""
        given = request_options(call.request)
        headers = {"X-Client-Request-Id": call.client_request_id}
        streaming: dict[str, Any] = {"stream": True} if call.request.partial_images else {}
        # Unread and unparsed: a body is megabytes, which are held once, and parsed off the loop.
        api = self._sdk.images.with_streaming_response
        if not call.images:
            return api.generate(
                prompt=call.request.prompt,
                model=call.model,
                extra_body=given,
                extra_headers=headers,
                **streaming,
            )
        parts = _make_uploads(call)
        return api.edit(
            image=parts if len(parts) > 1 else parts[0],
            mask=_name_part("mask", call.mask) if call.mask else openai.omit,
            prompt=call.request.prompt,
            model=call.model,
            extra_body=given,
            extra_headers=headers,
            **streaming,
        )


def _max_answer(call: ProviderCall) -> int:
    return max_picture_answer(call.request.image_count + (call.request.partial_images or 0))


def _describe_break(error: Exception, start: bytes) -> ProviderFailure:
    """Build the failure of a request whose response broke off after `start`, or never began."""
    failure = classify_transport(error)
    usage = find_usage(start)
    if usage:
        failure.response = {"usage": usage}
    return failure


def _describe_too_large(error: BodyTooLarge, call: ProviderCall, start: bytes) -> MalformedAnswer:
    usage = find_usage(start)
    count = call.request.image_count
    asked = "the picture that was" if count == 1 else f"the {count} pictures that were"
    return MalformedAnswer(
        detail=f"{error}, more than {asked} asked for can have; the rest was not read",
        http_status=error.response.status_code,
        provider_request_id=read_provider_request_id(error.response.headers),
        raw_body=start[:MAX_RAW_BODY],
        response=None if usage is None else {"usage": usage},
    )


def _make_uploads(call: ProviderCall) -> list[tuple[str, IO[bytes], str]]:
    """Wrap the images as files that release their bytes once they are read."""
    missing = len(call.images)

    def end() -> None:
        nonlocal missing
        missing -= 1
        if not missing and call.on_uploaded:
            call.on_uploaded()

    return [
        (
            f"image-{index}.{_EXTENSIONS[image.media_type]}",
            cast("IO[bytes]", Upload(image.data, end)),
            image.media_type,
        )
        for index, image in enumerate(call.images, start=1)
    ]


def _name_part(name: str, part: FilePart) -> tuple[str, bytes, str]:
    return f"{name}.{_EXTENSIONS[part.media_type]}", part.data, part.media_type


def _without_cookies(headers: httpx2.Headers) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name != "set-cookie"}
