"""Failed answers, read before the SDK sees them: it would leave one open whose body it cannot decode, and lose one with its
status whose charset it cannot read. Judges nothing (`imaging.classify` does).
"""

import asyncio
from datetime import timedelta

import httpx2

from imaging.body_limits import MAX_ERROR_BODY, bound_body
from imaging.early_answers import was_cut_short

_PATIENCE = timedelta(seconds=10)
_SAID_BY_STATUS = frozenset({*range(300, 400), 401, 402, 403, 404, 405, 429})
"""Nothing was carried out, whatever the words are. Those of others may say that something was drawn."""


class FailedAnswer(Exception):
    """An answer other than 2xx; `body` is empty where it broke off, and cut where it is too large."""

    def __init__(self, response: httpx2.Response, body: bytes) -> None:
        super().__init__("failed answer")
        self.response = response
        self.body = body


async def refuse_failed(response: httpx2.Response) -> None:
    """Reads an answer other than 2xx, and raises it.

    Raises:
        FailedAnswer: also where its body broke off or did not come in time, if its status says all that matters, or if the request
            was not sent whole.
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
