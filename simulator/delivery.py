"""How an answer reaches the client, or does not: bodies, resets, half answers, silence."""

import asyncio
import json
import socket
import struct
from collections.abc import Mapping

from aiohttp import web

from simulator.errors import ApiError
from simulator.faults import Fault, FaultKind

REDIRECTED = "redirected"
"""The query parameter that marks a request as sent again after a redirect."""

GATEWAY_STATUSES = {FaultKind.BAD_GATEWAY: 502, FaultKind.GATEWAY_TIMEOUT: 504}
_SILENT = {FaultKind.RESET_BEFORE, FaultKind.RESET_AFTER_PAYMENT, FaultKind.HANG}
BEFORE_ANY_STREAM = {
    *GATEWAY_STATUSES,
    *_SILENT,
    FaultKind.MALFORMED_JSON,
    FaultKind.PLAIN_TEXT,
    FaultKind.REDIRECT,
}
"""Faults that strike before a stream could begin."""
_SECONDS_BETWEEN_LOOKS = 0.02
_GATEWAY_PAGE = "<html><head><title>{0}</title></head><body><center><h1>{0}</h1></center></body></html>\n"
_TEXTS = {
    FaultKind.MALFORMED_JSON: ("application/json", '{"created": 1763856000, "data": [{"b64_json": "iVBORw0'),
    FaultKind.PLAIN_TEXT: ("text/plain", "upstream: ok"),
}


def find_status(fault: Fault | None) -> int | None:
    """The status that a request which is not refused is answered with, None if it gets no answer."""
    if fault is None:
        return 200
    if fault.kind in _SILENT:
        return None
    return 307 if fault.kind is FaultKind.REDIRECT else GATEWAY_STATUSES.get(fault.kind, 200)


async def deliver(
    request: web.Request, body: bytes, headers: Mapping[str, str], fault: Fault | None
) -> web.StreamResponse:
    """Answers with a JSON body, or does what the fault says instead."""
    kind = fault.kind if fault else None
    if kind in GATEWAY_STATUSES:
        return _answer_as_gateway(GATEWAY_STATUSES[kind])
    if kind in _TEXTS:
        content_type, text = _TEXTS[kind]
        return web.Response(text=text, content_type=content_type, headers=headers)
    if kind is FaultKind.TRUNCATED:
        return await _send_half(request, body, headers)
    if kind is FaultKind.REDIRECT:
        return _redirect(request, headers)
    if kind in _SILENT:
        return await hang(request) if kind is FaultKind.HANG else reset(request)
    return web.Response(body=body, content_type="application/json", headers=headers)


def answer_error(error: ApiError, headers: Mapping[str, str]) -> web.Response:
    """The provider's error body."""
    return web.Response(
        status=error.status,
        body=json.dumps(error.body).encode(),
        content_type="application/json",
        headers={**headers, **error.headers},
    )


def _answer_as_gateway(status: int) -> web.Response:
    """A proxy's own page: none of the provider's headers, not even the id of the request."""
    title = {502: "502 Bad Gateway", 504: "504 Gateway Time-out"}[status]
    return web.Response(status=status, text=_GATEWAY_PAGE.format(title), content_type="text/html")


def reset(request: web.Request) -> web.Response:
    """Ends the connection at once, with a reset: nothing that was or will be written arrives."""
    if request.transport is not None:
        connection = request.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.transport.abort()
    return web.Response()


async def hang(request: web.Request) -> web.Response:
    """Says nothing until the client leaves."""
    while request.transport and not request.transport.is_closing():  # noqa: ASYNC110
        await asyncio.sleep(_SECONDS_BETWEEN_LOOKS)
    return web.Response()


async def _send_half(request: web.Request, body: bytes, headers: Mapping[str, str]) -> web.StreamResponse:
    """Promises the whole body, sends its first half, and closes the connection."""
    response = web.StreamResponse(headers={**headers, "Content-Type": "application/json"})
    response.content_length = len(body)
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    if request.transport is not None:
        request.transport.close()
    return response


def _redirect(request: web.Request, headers: Mapping[str, str]) -> web.Response:
    """To the same address, marked, so that a client that follows gets its answer there."""
    address = request.url.update_query({REDIRECTED: "1"})
    return web.Response(status=307, headers={**headers, "Location": str(address)})
