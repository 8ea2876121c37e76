"""The SDK as every client of ours uses it: no retries, no redirects, no kept connections. Connects to nothing by itself."""

import base64
import re
from collections.abc import Awaitable, Callable
from functools import cache
from urllib.parse import quote

import httpx2
import openai

from imaging.body_limits import IDENTITY
from imaging.early_answers import read_early_answers
from imaging.provider_settings import OPENAI_URL, ProviderSettings

_SHORTEST_KEY_TO_HIDE = 16
"""Shorter ones are placeholders for gateways without keys, and may be part of any word."""
_FEWEST_CHARACTERS = 8
"""Different ones, in a key that was drawn by chance: none of these is in a picture."""
_PICTURES = b'"b64_json"'


def open_sdk(
    settings: ProviderSettings, *look_first: Callable[[httpx2.Response], Awaitable[None]]
) -> openai.AsyncOpenAI:
    """The SDK's client for checked settings; close it after use.

    `look_first` is shown each answer before the SDK sees it, and not read yet: it is closed where one of them raises.
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
    if len(key) < _SHORTEST_KEY_TO_HIDE or (len(set(key)) < _FEWEST_CHARACTERS and _PICTURES in body):
        return body
    forms, escaped, any_escape = _key_forms(key)
    for form in forms:
        if form in body:
            body = body.replace(form, hidden)
    # The long pattern is slow on megabytes, and nobody escapes letters and digits without a reason.
    return escaped.sub(hidden, body) if any_escape.search(body) else body


@cache
def _key_forms(key: str) -> tuple[tuple[bytes, ...], re.Pattern[bytes], re.Pattern[bytes]]:
    """The key in its other spellings, a pattern of it with any characters escaped for JSON, and one of such an escape."""
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
    """The part of base64 that is the same whatever `offset` bytes stand before the key, and whatever stands behind it."""
    encoded = base64.b64encode(bytes(offset) + plain)
    return encoded[-(-offset * 8 // 6) : (offset + len(plain)) * 8 // 6]


def _hiding_in_headers(key: str) -> Callable[[httpx2.Response], Awaitable[None]]:
    """Make a response hook that removes the key from headers: a request id goes into the ledger."""

    async def hide(response: httpx2.Response) -> None:
        for name, value in response.headers.items():
            hidden = hide_key(value.encode(), key).decode()
            if hidden != value:
                response.headers[name] = hidden

    return hide


def _timeouts(settings: ProviderSettings) -> httpx2.Timeout:
    brief = settings.connect_timeout_seconds
    return httpx2.Timeout(settings.timeout_seconds, connect=brief, pool=brief)
