"""Deliver responses, or fail to: bodies, streams, resets, half responses, silence."""

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

# The query parameter of a request that follows a redirect.
REDIRECTED = "redirected"

GATEWAY_STATUSES = {FaultKind.BAD_GATEWAY: 502, FaultKind.GATEWAY_TIMEOUT: 504}
_SILENT = {FaultKind.RESET_BEFORE, FaultKind.RESET_AFTER_PAYMENT, FaultKind.HANG}
# Faults that happen before a stream could begin.
_BEFORE_STREAM_FAULTS = {
    *GATEWAY_STATUSES,
    *_SILENT,
    FaultKind.MALFORMED_JSON,
    FaultKind.PLAIN_TEXT,
    FaultKind.REDIRECT,
}
_HANG_POLL_SECONDS = 0.02
_GATEWAY_PAGE = "<html><head><title>{0}</title></head><body><center><h1>{0}</h1></center></body></html>\n"
_TEXTS = {
    FaultKind.MALFORMED_JSON: ("application/json", '{"created": 1763856000, "data": [{"b64_json": "iVBORw0'),
    FaultKind.PLAIN_TEXT: ("text/plain", "upstream: ok"),
}


def get_status(fault: Fault | None) -> int | None:
    """Return the status of a request that is not refused, or None if it gets no response."""
    if fault is None:
        return 200
    if fault.kind in _SILENT:
        return None
    return 307 if fault.kind is FaultKind.REDIRECT else GATEWAY_STATUSES.get(fault.kind, 200)


async def deliver(
    request: web.Request, body: bytes, headers: Mapping[str, str], fault: Fault | None
) -> web.StreamResponse:
    """Send a JSON body, or do what the fault says instead."""
    kind = fault.kind if fault else None
    if kind in GATEWAY_STATUSES:
        return _build_gateway_page(GATEWAY_STATUSES[kind])
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


def build_error_response(error: ApiError, headers: Mapping[str, str]) -> web.Response:
    """Build the provider's error response."""
    return web.Response(
        status=error.status,
        body=json.dumps(error.body).encode(),
        content_type="application/json",
        headers={**headers, **error.headers},
    )


def _build_gateway_page(status: int) -> web.Response:
    """Build a proxy's error page, without the provider's headers or request id."""
    title = {502: "502 Bad Gateway", 504: "504 Gateway Time-out"}[status]
    return web.Response(status=status, text=_GATEWAY_PAGE.format(title), content_type="text/html")


def reset(request: web.Request) -> web.Response:
    """Reset the connection at once, so that nothing written arrives."""
    if request.transport is not None:
        connection = request.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.transport.abort()
    return web.Response()


async def hang(request: web.Request) -> web.Response:
    """Send nothing until the client disconnects."""
    while request.transport and not request.transport.is_closing():  # noqa: ASYNC110
        await asyncio.sleep(_HANG_POLL_SECONDS)
    return web.Response()


async def _send_half(request: web.Request, body: bytes, headers: Mapping[str, str]) -> web.StreamResponse:
    """Announce the whole body, send its first half, and close the connection."""
    response = web.StreamResponse(headers={**headers, "Content-Type": "application/json"})
    response.content_length = len(body)
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    if request.transport is not None:
        request.transport.close()
    return response


def _redirect(request: web.Request, headers: Mapping[str, str]) -> web.Response:
    """Redirect to the same URL, marked so that a client that follows gets a normal response."""
    address = request.url.update_query({REDIRECTED: "1"})
    return web.Response(status=307, headers={**headers, "Location": str(address)})


# Faults that only a streamed response can have.
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

_PREFIXES: dict[Endpoint, str] = {"generations": "image_generation", "edits": "image_edit"}
_STREAM_BREAKS = {
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


def adapt_order(order: ImageOrder, fault: Fault | None) -> ImageOrder:
    """Return the order as it is executed: the fault may disable streaming or drop a partial image."""
    if fault is None or order.partial_images is None:
        return order
    if fault.kind in _BEFORE_STREAM_FAULTS or fault.kind is FaultKind.STREAM_IGNORED:
        return replace(order, partial_images=None)
    if fault.kind is FaultKind.FEWER_PARTIALS:
        return replace(order, partial_images=max(0, order.partial_images - 1))
    return order


def build_events(
    order: ImageOrder, partials: Sequence[bytes], answer: bytes, fault: Fault | None
) -> list[bytes]:
    """Build the events of a stream: one for each partial image, then the completed response."""
    prefix, document = _PREFIXES[order.endpoint], json.loads(answer or b"{}")
    common = {
        "created_at": document.pop("created", 0),
        "size": order.size_name,
        "quality": order.quality,
        "background": order.background,
        "output_format": order.output_format,
    }
    damaged = fault is not None and fault.kind is FaultKind.BAD_PARTIAL
    events = [
        {
            "type": f"{prefix}.partial_image",
            "partial_image_index": index,
            "b64_json": "!not base64" if damaged and index == 0 else base64.b64encode(picture).decode(),
            **common,
        }
        for index, picture in enumerate(partials)
    ]
    if isinstance(document.get("usage"), dict):
        document["usage"].pop("output_tokens_details", None)  # the provider's events never have it
    pictures = document.pop("data", [{}]) or [{}]
    events.append({"type": f"{prefix}.completed", **pictures[0], **common, **document})
    if fault is not None and fault.kind is FaultKind.STREAM_DIALECT:
        return _build_gateway_events(events, {**common, **document, "data": pictures}, fault.dialect)
    return [_format_event(event) for event in events]


async def deliver_stream(
    request: web.Request,
    events: Sequence[bytes],
    headers: Mapping[str, str],
    fault: Fault | None,
    pause_seconds: float,
) -> web.StreamResponse:
    """Send the events, with a pause before each, and apply the fault."""
    response = web.StreamResponse(
        headers={**headers, "Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"}
    )
    await response.prepare(request)
    for number, event in enumerate(events):
        await asyncio.sleep(pause_seconds)
        is_last = number == len(events) - 1
        if fault and fault.kind in _STREAM_BREAKS and (number == fault.events or is_last):
            await _break(request, response, fault)
            return response
        if fault and fault.kind is FaultKind.TRUNCATED and is_last:
            await response.write(event[: len(event) // 2])
            _close_abruptly(request)
            return response
        await response.write(event)
    await response.write_eof()
    return response


async def _break(request: web.Request, response: web.StreamResponse, fault: Fault) -> None:
    if fault.kind is FaultKind.STREAM_STALLED:
        await hang(request)
    elif fault.kind is FaultKind.STREAM_BROKEN:
        _close_abruptly(request)
    elif fault.kind is FaultKind.STREAM_ERROR:
        error = {**_ERRORS[fault.error], "code": fault.error, "param": None}
        await response.write(_format_event({"type": "error", "error": error}))
    elif fault.kind is FaultKind.STREAM_MALFORMED:
        await response.write(_HALF_AN_EVENT)


def _close_abruptly(request: web.Request) -> None:
    """Close without the mark that ends a body, so that the client sees a broken connection."""
    if request.transport is not None:
        request.transport.close()


def _build_gateway_events(
    events: list[dict[str, Any]], document: dict[str, Any], dialect: StreamDialect
) -> list[bytes]:
    if dialect == "wrapped":
        return [f"data: {json.dumps(document)}\n\n".encode(), b"data: [DONE]\n\n"]
    if dialect == "event_line":
        return [
            _format_event(event).replace(json.dumps(event["type"]).encode(), b"null", 1) for event in events
        ]
    names = [*["image.chunk"] * (len(events) - 1), "image.complete"]
    return [_format_event({**event, "type": name}) for event, name in zip(events, names, strict=True)]


def _format_event(event: dict[str, Any]) -> bytes:
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()
