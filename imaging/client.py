"""The provider's client: each `send` is one HTTP request, and ends in a whole answer or in one `ProviderFailure`.

Reads no answer but the failed ones (`imaging.answers` does), never repeats anything, and keeps no record.
"""

import asyncio
import time
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

import httpx2
import openai

from contracts.images import MediaType
from imaging.calls import FilePart, ProviderCall, RawAnswer
from imaging.classify import classify_answer, classify_transport
from imaging.error_bodies import read_provider_request_id
from imaging.errors import ProviderFailure
from imaging.provider_settings import OPENAI_URL, ProviderSettings, check_settings

__all__ = ["FilePart", "ImageClient", "ProviderCall", "ProviderSettings", "RawAnswer", "open_client"]

_OPTIONS = (
    "n",
    "size",
    "quality",
    "background",
    "output_format",
    "output_compression",
    "moderation",
    "safety_identifier",
    "user",
    "input_fidelity",
)
_EXTENSIONS: dict[MediaType, str] = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}
_SHORTEST_KEY_TO_HIDE = 16
"""Shorter ones are placeholders for gateways without keys, and may be part of any word."""


def open_client(settings: ProviderSettings) -> "ImageClient":
    """Opens a client; connects to nothing yet.

    Raises:
        ProviderNotConfigured: a setting is missing or cannot work.
    """
    check_settings(settings)
    transport = httpx2.AsyncClient(
        timeout=_timeouts(settings),
        # A followed 307 would be a second paid request that nobody counted.
        follow_redirects=False,
        # No connection is kept: a handshake is nothing beside the drawing of a picture, and a kept connection that
        # the other side is just closing would make an attempt of unknown outcome.
        limits=httpx2.Limits(max_connections=settings.max_connections, max_keepalive_connections=0),
    )
    return ImageClient(_open_sdk(settings, transport), timeout_seconds=settings.timeout_seconds)


def _open_sdk(settings: ProviderSettings, transport: httpx2.AsyncClient) -> openai.AsyncOpenAI:
    key = (settings.api_key or "").strip()  # a secret's file often ends in a newline
    if settings.azure_endpoint:
        return openai.AsyncAzureOpenAI(
            api_key=key,
            azure_endpoint=settings.azure_endpoint,
            api_version=settings.azure_api_version,
            max_retries=0,
            timeout=_timeouts(settings),
            http_client=transport,
        )
    return openai.AsyncOpenAI(
        api_key=key,
        base_url=settings.base_url or OPENAI_URL,
        max_retries=0,
        timeout=_timeouts(settings),
        http_client=transport,
    )


def _timeouts(settings: ProviderSettings) -> httpx2.Timeout:
    brief = settings.connect_timeout_seconds
    return httpx2.Timeout(settings.timeout_seconds, connect=brief, pool=brief)


class ImageClient:
    """Sends image requests through the SDK, whose own retries are off. Made by `open_client`; close it after use."""

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
        """Closes the connections. Calls in flight fail."""
        await self._sdk.close()

    async def send(self, call: ProviderCall) -> RawAnswer:
        """Sends exactly one HTTP request and waits for its whole answer.

        Raises:
            ProviderFailure: there is no 2xx; its class and `outcome` say what that means. Cancelled while waiting,
                nothing is raised but the cancellation, and the outcome is unknown.
        """
        sent_at = datetime.now(UTC)
        started = time.monotonic()
        response = await self._request(call)
        return RawAnswer(
            body=response.content,
            headers=_without_cookies(response.headers),
            http_status=response.status_code,
            provider_request_id=read_provider_request_id(response.headers),
            latency_ms=round((time.monotonic() - started) * 1000),
            simulated=response.headers.get("x-simulated") == "true",
            sent_at=sent_at,
        )

    async def _request(self, call: ProviderCall) -> httpx2.Response:
        failure: ProviderFailure
        try:
            # The transport's time-out starts again with every packet; this one bounds the call.
            async with asyncio.timeout(self._timeout_seconds):
                return await self._post(call)
        except openai.APIStatusError as error:
            response = error.response
            body = self._without_key(response.content)
            failure = classify_answer(response.status_code, response.headers, body, datetime.now(UTC))
        except Exception as error:  # noqa: BLE001 - whatever breaks once sending has begun may have been paid
            failure = classify_transport(error)
        # Outside of the except clauses, so that the SDK's error is not its context: that one's text goes into logs
        # and histories with it, and may quote the prompt or the key.
        raise failure

    async def _post(self, call: ProviderCall) -> httpx2.Response:
        options = {name: getattr(call.request, name) for name in _OPTIONS}
        given = {name: value for name, value in options.items() if value is not None}
        headers = {"X-Client-Request-Id": call.client_request_id}
        # Unparsed: a body is megabytes, and is read once, off the loop.
        api = self._sdk.images.with_raw_response
        if not call.images:
            raw = await api.generate(
                prompt=call.request.prompt, model=call.model, extra_body=given, extra_headers=headers
            )
            return raw.http_response
        parts = [_name_part(f"image-{index}", image) for index, image in enumerate(call.images, start=1)]
        raw = await api.edit(
            image=parts if len(parts) > 1 else parts[0],
            mask=_name_part("mask", call.mask) if call.mask else openai.omit,
            prompt=call.request.prompt,
            model=call.model,
            extra_body=given,
            extra_headers=headers,
        )
        return raw.http_response

    def _without_key(self, body: bytes) -> bytes:
        """The body of a failed answer without our key, which some gateways quote."""
        key = self._sdk.api_key
        return body.replace(key.encode(), b"[API key]") if len(key) >= _SHORTEST_KEY_TO_HIDE else body


def _name_part(name: str, part: FilePart) -> tuple[str, bytes, str]:
    return f"{name}.{_EXTENSIONS[part.media_type]}", part.data, part.media_type


def _without_cookies(headers: httpx2.Headers) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name != "set-cookie"}
