"""A streamed answer: partial pictures and the finished one as server-sent events, or what a fault makes of them."""

import asyncio
import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from aiohttp import web

from simulator.delivery import BEFORE_ANY_STREAM, hang
from simulator.errors import IMAGE_ERROR
from simulator.faults import Fault, FaultKind, StreamDialect, StreamErrorCode
from simulator.orders import Endpoint, ImageOrder

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
