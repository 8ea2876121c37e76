"""The SDK as all our clients use it: no retries, no redirects, no connection reuse. Does not connect by itself."""

import asyncio
import base64
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from urllib.parse import quote

import httpx2
import openai

from gpt_image_runs.provider.body_limits import IDENTITY, MAX_ERROR_BODY, bound_body
from gpt_image_runs.provider.early_answers import read_early_answers, was_cut_short
from gpt_image_runs.provider.errors import ProviderNotConfigured

OPENAI_URL = "https://api.openai.com/v1"


@dataclass(frozen=True, kw_only=True)
class ProviderSettings:
    """Connection settings: Azure if `azure_endpoint` is set, otherwise OpenAI's API at `base_url` or at OpenAI.

    `timeout_seconds` limits a whole call: an image can take 280 s. `connect_timeout_seconds` also limits the wait for a free
    connection.
    """

    api_key: str | None = field(repr=False)
    base_url: str | None = None
    azure_endpoint: str | None = None
    azure_api_version: str | None = None
    timeout_seconds: float = 600.0
    connect_timeout_seconds: float = 5.0
    max_connections: int = 100


def check_settings(settings: ProviderSettings) -> None:
    """Check the settings.

    Raises:
        ProviderNotConfigured: with the setting's name and what to set it to.
    """
    _check_key((settings.api_key or "").strip())
    if settings.azure_endpoint:
        _check_url("AZURE_OPENAI_ENDPOINT", settings.azure_endpoint, example="https://NAME.openai.azure.com")
        _check_azure(settings)
    elif settings.base_url:
        _check_url("OPENAI_BASE_URL", settings.base_url, example=OPENAI_URL)


def _check_key(key: str) -> None:
    if not key:
        raise ProviderNotConfigured(
            detail="there is no API key; set OPENAI_API_KEY (to any text for a gateway that needs no key)"
        )
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise ProviderNotConfigured(
            detail="OPENAI_API_KEY contains a space or a character that keys do not have; copy it again"
        )


def _check_url(setting: str, text: str, example: str) -> None:
    try:
        url = httpx2.URL(text)
    except httpx2.InvalidURL:
        url = httpx2.URL()
    if url.scheme not in {"http", "https"} or not url.host:
        raise ProviderNotConfigured(
            detail=f"{setting} is {text!r}, which is not a URL; write it in full, such as {example}"
        )


def _check_azure(settings: ProviderSettings) -> None:
    if settings.base_url:
        raise ProviderNotConfigured(
            detail="OPENAI_BASE_URL and AZURE_OPENAI_ENDPOINT are both set; unset the one you do not use"
        )
    if not settings.azure_api_version:
        raise ProviderNotConfigured(
            detail="AZURE_OPENAI_ENDPOINT is set without a version; set OPENAI_API_VERSION"
        )


# Shorter keys are placeholders for gateways without keys, and may be part of any word.
_MIN_KEY_TO_HIDE = 16
# Random keys have at least this many different characters; a key with fewer may occur in an image by chance.
_MIN_CHARACTERS = 8
_PICTURES = b'"b64_json"'


def open_sdk(
    settings: ProviderSettings, *look_first: Callable[[httpx2.Response], Awaitable[None]]
) -> openai.AsyncOpenAI:
    """Open the SDK's client for checked settings; close it after use.

    Each hook in `look_first` gets every response, unread, before the SDK does. If one raises, the response is closed.
    """
    key = (settings.api_key or "").strip()  # a secret's file often ends in a newline
    transport = httpx2.AsyncClient(
        timeout=_timeouts(settings),
        headers=IDENTITY,
        event_hooks={"response": [_hiding_in_headers(key), *look_first]},
        # A followed 307 would be a second paid request that nobody counted.
        follow_redirects=False,
        # No connection is kept: a handshake is nothing beside the drawing of a picture, and a kept connection that
        # the other side is just closing would make an attempt of unknown outcome.
        limits=httpx2.Limits(max_connections=settings.max_connections, max_keepalive_connections=0),
    )
    read_early_answers(transport)
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


def hide_key(body: bytes, key: str, hidden: bytes = b"[API key]") -> bytes:
    """Remove our key from an answer, which some gateways quote: as it is, escaped for JSON or a URL, in base64 and in hex.

    A key that looks like a placeholder may be part of a picture by chance, and is left in answers that have one.
    """
    if len(key) < _MIN_KEY_TO_HIDE or (len(set(key)) < _MIN_CHARACTERS and _PICTURES in body):
        return body
    forms, escaped, any_escape = _key_forms(key)
    for form in forms:
        if form in body:
            body = body.replace(form, hidden)
    # The long pattern is slow on megabytes, and nobody escapes letters and digits without a reason.
    return escaped.sub(hidden, body) if any_escape.search(body) else body


@cache
def _key_forms(key: str) -> tuple[tuple[bytes, ...], re.Pattern[bytes], re.Pattern[bytes]]:
    """Return the key's other encodings, a pattern for it with JSON escapes, and a pattern for such an escape."""
    plain = key.encode()
    quoted = quote(key, safe="").encode()
    encoded = {_encode_within(plain, offset) for offset in range(3)}
    url_safe = {form.translate(bytes.maketrans(b"+/", b"-_")) for form in encoded}
    forms = {
        plain,
        plain.replace(b"/", b"\\/"),
        quoted,
        re.sub(rb"%..", lambda found: found[0].lower(), quoted),
    }
    forms |= encoded | url_safe | {plain.hex().encode(), plain.hex().upper().encode()}
    codes = {character: f"\\\\u00(?i:{ord(character):02x})" for character in key}
    spelled = {character: r"\\?/" if character == "/" else re.escape(character) for character in key}
    characters = (f"(?:{spelled[character]}|{codes[character]})" for character in key)
    return (
        tuple(sorted(forms, key=len, reverse=True)),
        re.compile("".join(characters).encode()),
        re.compile("|".join(sorted(set(codes.values()))).encode()),
    )


def _encode_within(plain: bytes, offset: int) -> bytes:
    """Return the part of the key's base64 that does not depend on the `offset` bytes before it or on what follows."""
    encoded = base64.b64encode(bytes(offset) + plain)
    return encoded[-(-offset * 8 // 6) : (offset + len(plain)) * 8 // 6]


def _hiding_in_headers(key: str) -> Callable[[httpx2.Response], Awaitable[None]]:
    """Build a response hook that removes the key from headers: the provider's request id is stored in the ledger."""

    async def hide(response: httpx2.Response) -> None:
        for name, value in response.headers.items():
            hidden = hide_key(value.encode(), key).decode()
            if hidden != value:
                response.headers[name] = hidden

    return hide


def _timeouts(settings: ProviderSettings) -> httpx2.Timeout:
    brief = settings.connect_timeout_seconds
    return httpx2.Timeout(settings.timeout_seconds, connect=brief, pool=brief)


_PATIENCE = timedelta(seconds=10)
# With these statuses nothing was processed, whatever the body says. With others the body may say that an image was drawn.
_SAID_BY_STATUS = frozenset({*range(300, 400), 401, 402, 403, 404, 405, 429})


class FailedAnswer(Exception):
    """A response other than 2xx. `body` is empty if it broke off, and cut if it is too large."""

    def __init__(self, response: httpx2.Response, body: bytes) -> None:
        super().__init__("failed answer")
        self.response = response
        self.body = body


async def refuse_failed(response: httpx2.Response) -> None:
    """Read a response other than 2xx and raise it.

    Raises:
        FailedAnswer: also if its body broke off or timed out, as long as its status is enough to decide, or if the request was
            not sent completely.
        httpx2.HTTPError: its body broke off otherwise.
    """
    if response.is_success:
        return
    bound_body(response, MAX_ERROR_BODY, is_cut=True)
    body = bytearray()
    if response.status_code not in _SAID_BY_STATUS and not was_cut_short(response):
        await _read_into(body, response)
    else:
        try:
            async with asyncio.timeout(_PATIENCE.total_seconds()):
                await _read_into(body, response)
        except (httpx2.HTTPError, TimeoutError):
            body.clear()  # half a text may end in half of our key, which nobody would recognise
    raise FailedAnswer(response, bytes(body))


async def _read_into(body: bytearray, response: httpx2.Response) -> None:
    async for piece in response.aiter_bytes():
        body += piece
