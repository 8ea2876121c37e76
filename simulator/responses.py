"""How an answer reaches the client, or does not: bodies, resets, half answers, silence."""

import asyncio
import base64
import json
import socket
import struct
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from aiohttp import web

from simulator.faults import Fault, FaultKind, StreamDialect, StreamErrorCode
from simulator.http import IMAGE_ERROR, ApiError
from simulator.orders import Endpoint, ImageOrder

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


STREAM_FAULTS = {
    FaultKind.STREAM_BROKEN,
    FaultKind.STREAM_ENDED,
    FaultKind.STREAM_STALLED,
    FaultKind.STREAM_ERROR,
    FaultKind.STREAM_MALFORMED,
    FaultKind.STREAM_IGNORED,
    FaultKind.STREAM_DIALECT,
    FaultKind.FEWER_PARTIALS,
    FaultKind.BAD_PARTIAL,
}
"""Faults that only a streamed answer can have."""

_PREFIXES: dict[Endpoint, str] = {"generations": "image_generation", "edits": "image_edit"}
_BREAKS = {
    FaultKind.STREAM_BROKEN,
    FaultKind.STREAM_ENDED,
    FaultKind.STREAM_STALLED,
    FaultKind.STREAM_ERROR,
    FaultKind.STREAM_MALFORMED,
}
_HALF_AN_EVENT = b'data: {"type": "image_gen\n\n'
_ERRORS: dict[StreamErrorCode, dict[str, Any]] = {
    "image_generation_failed": {
        "type": "image_generation_server_error",
        "message": "The image could not be finished. Try again.",
    },
    "moderation_blocked": {
        "type": IMAGE_ERROR,
        "message": "Your request was rejected by the safety system.",
        "moderation_details": {"moderation_stage": "output", "categories": ["violence"]},
    },
    "rate_limit_exceeded": {
        "type": "requests",
        "message": "Rate limit reached for images per min. Please try again in 1s.",
    },
}


def fit_to_fault(order: ImageOrder, fault: Fault | None) -> ImageOrder:
    """The order as it is carried out: without a stream where the fault leaves none, or with fewer partial pictures."""
    if fault is None or order.partial_images is None:
        return order
    if fault.kind in BEFORE_ANY_STREAM or fault.kind is FaultKind.STREAM_IGNORED:
        return replace(order, partial_images=None)
    if fault.kind is FaultKind.FEWER_PARTIALS:
        return replace(order, partial_images=max(0, order.partial_images - 1))
    return order


def write_events(
    order: ImageOrder, partials: Sequence[bytes], answer: bytes, fault: Fault | None
) -> list[bytes]:
    """The events of a stream: one for each partial picture, and the answer itself as the last one, without an end."""
    prefix, document = _PREFIXES[order.endpoint], json.loads(answer or b"{}")
    told = {
        "created_at": document.pop("created", 0),
        "size": order.size_name,
        "quality": order.quality,
        "background": order.background,
        "output_format": order.output_format,
    }
    spoilt = fault is not None and fault.kind is FaultKind.BAD_PARTIAL
    events = [
        {
            "type": f"{prefix}.partial_image",
            "partial_image_index": index,
            "b64_json": "!not base64" if spoilt and index == 0 else base64.b64encode(picture).decode(),
            **told,
        }
        for index, picture in enumerate(partials)
    ]
    if isinstance(document.get("usage"), dict):
        document["usage"].pop("output_tokens_details", None)  # no event of the provider's has it
    pictures = document.pop("data", [{}]) or [{}]
    events.append({"type": f"{prefix}.completed", **pictures[0], **told, **document})
    if fault is not None and fault.kind is FaultKind.STREAM_DIALECT:
        return _write_as_gateway(events, {**told, **document, "data": pictures}, fault.dialect)
    return [_write(event) for event in events]


async def deliver_stream(
    request: web.Request,
    events: Sequence[bytes],
    headers: Mapping[str, str],
    fault: Fault | None,
    pause_seconds: float,
) -> web.StreamResponse:
    """Sends the events, a pause before each, and goes wrong where the fault says so."""
    response = web.StreamResponse(
        headers={**headers, "Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"}
    )
    await response.prepare(request)
    for number, event in enumerate(events):
        await asyncio.sleep(pause_seconds)
        is_last = number == len(events) - 1
        if fault and fault.kind in _BREAKS and (number == fault.events or is_last):
            await _break(request, response, fault)
            return response
        if fault and fault.kind is FaultKind.TRUNCATED and is_last:
            await response.write(event[: len(event) // 2])
            _hang_up(request)
            return response
        await response.write(event)
    await response.write_eof()
    return response


async def _break(request: web.Request, response: web.StreamResponse, fault: Fault) -> None:
    if fault.kind is FaultKind.STREAM_STALLED:
        await hang(request)
    elif fault.kind is FaultKind.STREAM_BROKEN:
        _hang_up(request)
    elif fault.kind is FaultKind.STREAM_ERROR:
        error = {**_ERRORS[fault.error], "code": fault.error, "param": None}
        await response.write(_write({"type": "error", "error": error}))
    elif fault.kind is FaultKind.STREAM_MALFORMED:
        await response.write(_HALF_AN_EVENT)


def _hang_up(request: web.Request) -> None:
    """Without the mark that ends a body, so that the client sees a broken connection. What was sent arrives."""
    if request.transport is not None:
        request.transport.close()


def _write_as_gateway(
    events: list[dict[str, Any]], document: dict[str, Any], dialect: StreamDialect
) -> list[bytes]:
    if dialect == "wrapped":
        return [f"data: {json.dumps(document)}\n\n".encode(), b"data: [DONE]\n\n"]
    if dialect == "event_line":
        return [_write(event).replace(json.dumps(event["type"]).encode(), b"null", 1) for event in events]
    names = [*["image.chunk"] * (len(events) - 1), "image.complete"]
    return [_write({**event, "type": name}) for event, name in zip(events, names, strict=True)]


def _write(event: dict[str, Any]) -> bytes:
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()
