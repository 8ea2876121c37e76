"""Limits on the size of response bodies, counted after decompression so that a compressed body cannot fill the memory."""

import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import httpx2

from gpt_image_runs.provider.json_decoding import read_json

# Images do not compress, and the size of a compressed body is not known in advance. Bodies that are compressed anyway are counted.
IDENTITY = {"Accept-Encoding": "identity"}
MIB = 1024 * 1024
# The API's errors have some hundreds of bytes; a gateway may send anything.
MAX_ERROR_BODY = MIB
# Responses without images: batches, their lists, file descriptions, pages of the Usage API.
MAX_JSON_BODY = 32 * MIB
# The largest picture that a model makes, 3840x2160 with alpha, has 33 MB where nothing of it can be compressed.
_MAX_PICTURE = 36 * MIB
# Everything beside the pictures: usage, revised prompts, fields that are not known here.
_OVERHEAD = 16 * MIB


class BodyTooLarge(Exception):
    """The body is larger than any response to this request can be."""

    def __init__(self, response: httpx2.Response, max_bytes: int) -> None:
        super().__init__(f"the body has more than {max_bytes:,} bytes")
        self.response = response


def max_picture_answer(pictures: int) -> int:
    """Return the maximum size in bytes of a response with this many images in base64, partial ones included."""
    return pictures * _MAX_PICTURE * 4 // 3 + _OVERHEAD


def bound_body(response: httpx2.Response, max_bytes: int, *, is_cut: bool = False) -> None:
    """Limit how much of a response can be read. Call it before anything is read.

    At `max_bytes` the body ends early if `is_cut`, otherwise reading raises `BodyTooLarge`.
    """
    read_all = response.aiter_bytes

    async def read_bounded(chunk_size: int | None = None) -> AsyncGenerator[bytes, None]:
        left = max_bytes
        async with aclosing(read_all(chunk_size)) as pieces:
            async for piece in pieces:
                if len(piece) > left and not is_cut:
                    raise BodyTooLarge(response, max_bytes)
                yield piece[:left]
                left -= len(piece[:left])
                if is_cut and not left:
                    return

    # The one method that all others read by, the SDK's included: a transport of our own would ignore the proxy settings.
    response.aiter_bytes = read_bounded  # type: ignore[method-assign]


def bounding(is_streamed: Callable[[httpx2.Response], bool]) -> Callable[[httpx2.Response], Awaitable[None]]:
    """Build a response hook that limits errors and JSON. The reader limits a success for which `is_streamed` is true."""

    async def bound(response: httpx2.Response) -> None:
        if not response.is_success:
            bound_body(response, MAX_ERROR_BODY, is_cut=True)
        elif not is_streamed(response):
            bound_body(response, MAX_JSON_BODY)

    return bound


def find_usage(start: bytes) -> Any:
    """Return the usage object found at the beginning of a response's JSON, None if it is missing or incomplete."""
    _, found, rest = start.partition(b'"usage"')
    _, colon, value = rest.partition(b":") if found else (b"", b"", b"")
    text = value[: 64 * 1024].decode("utf-8", "replace").lstrip()
    if not colon or not text.startswith("{"):
        return None
    try:
        _, end = json.JSONDecoder().raw_decode(text)
        return read_json(text[:end].encode())
    except (ValueError, RecursionError):
        return None
