"""The SDK as every client of ours uses it: no retries, no redirects, no kept connections. Connects to nothing by itself."""

from collections.abc import Awaitable, Callable

import httpx2
import openai

from imaging.body_limits import IDENTITY
from imaging.early_answers import read_early_answers
from imaging.provider_settings import OPENAI_URL, ProviderSettings

_SHORTEST_KEY_TO_HIDE = 16
"""Shorter ones are placeholders for gateways without keys, and may be part of any word."""


def open_sdk(
    settings: ProviderSettings, *look_first: Callable[[httpx2.Response], Awaitable[None]]
) -> openai.AsyncOpenAI:
    """The SDK's client for checked settings; close it after use.

    `look_first` is shown each answer before the SDK sees it, and not read yet: it is closed where one of them raises.
    """
    transport = httpx2.AsyncClient(
        timeout=_timeouts(settings),
        headers=IDENTITY,
        event_hooks={"response": list(look_first)},
        # A followed 307 would be a second paid request that nobody counted.
        follow_redirects=False,
        # No connection is kept: a handshake is nothing beside the drawing of a picture, and a kept connection that
        # the other side is just closing would make an attempt of unknown outcome.
        limits=httpx2.Limits(max_connections=settings.max_connections, max_keepalive_connections=0),
    )
    read_early_answers(transport)
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


def hide_key(body: bytes, key: str) -> bytes:
    """The body of a failed answer without our key, which some gateways quote."""
    return body.replace(key.encode(), b"[API key]") if len(key) >= _SHORTEST_KEY_TO_HIDE else body


def _timeouts(settings: ProviderSettings) -> httpx2.Timeout:
    brief = settings.connect_timeout_seconds
    return httpx2.Timeout(settings.timeout_seconds, connect=brief, pool=brief)
