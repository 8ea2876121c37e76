"""Serve the two image endpoints: from a request to a response and an entry in the books."""

import asyncio
import base64
import json
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from http import HTTPStatus
from typing import Any

from aiohttp import web

from simulator.fault_effects import Document, build_refusal, spoil_document
from simulator.faults import Fault, FaultKind, FaultScript, strip_fault
from simulator.http import (
    ApiError,
    build_headers,
    check_key,
    get_key_id,
    read_client_request_id,
    read_project,
    refuse,
)
from simulator.orders import Endpoint, ImageOrder
from simulator.pictures import Brief, Encoding, coarsen, draw_picture, edit_picture, stamp_picture
from simulator.rate_limits import RateLimits
from simulator.request_log import BookEntry, Books, get_order_fields
from simulator.request_parsing import Body, read_json, read_multipart
from simulator.responses import (
    GATEWAY_STATUSES,
    REDIRECTED,
    STREAM_FAULTS,
    adapt_order,
    build_error_response,
    build_events,
    deliver,
    deliver_stream,
    get_status,
)
from simulator.tokens import Usage, price_usage
from simulator.uploads import Inputs
from simulator.validation import read_order


def build_response_body(
    order: ImageOrder, inputs: Inputs, usage: Usage, fault: Fault | None, request_id: str
) -> bytes:
    """Build the response body, damaged as the fault says."""
    encoding = Encoding(order.output_format, order.output_compression)
    if fault is not None and fault.kind is FaultKind.WRONG_FORMAT:
        encoding = encoding._replace(output_format="jpeg" if order.output_format == "png" else "png")
    pictures = [
        stamp_picture(_make_picture(order, inputs, encoding, index), request_id) for index in range(order.n)
    ]
    document = _build_response_document(order, pictures, usage)
    if fault is not None:
        spoil_document(document, fault)
    return json.dumps(document).encode()


def draw_partials(order: ImageOrder, inputs: Inputs, request_id: str) -> list[bytes]:
    """Draw the partial images of a stream, each less coarse than the one before."""
    encoding = Encoding(order.output_format, order.output_compression)
    finished = _make_picture(order, inputs, encoding, 0) if order.partial_images else b""
    return [
        stamp_picture(coarsen(finished, encoding, step), request_id)
        for step in range(order.partial_images or 0)
    ]


def _make_picture(order: ImageOrder, inputs: Inputs, encoding: Encoding, index: int) -> bytes:
    count = f"  /  {index + 1} of {order.n}" if order.n > 1 else ""
    brief = Brief(
        text=strip_fault(order.prompt),
        note=f"Simulated  /  {order.model_name}  /  {order.size_name}  /  {order.quality}{count}",
        size=order.size,
        variant=index,
        transparent=order.background == "transparent",
    )
    if inputs.images:
        return edit_picture(brief, encoding, inputs.images[0], inputs.mask)
    width, height = brief.size
    return (_draw_once if width * height <= _SMALL_PIXELS else draw_picture)(brief, encoding)


# Cached, because under a load of many equal requests drawing would take most of the CPU time.
_SMALL_PIXELS = 1024 * 1024


@lru_cache(maxsize=64)
def _draw_once(brief: Brief, encoding: Encoding) -> bytes:
    return draw_picture(brief, encoding)


def _build_response_document(order: ImageOrder, pictures: list[bytes], usage: Usage) -> Document:
    document: Document = {
        "created": int(time.time()),
        "background": order.background,
        "data": [{"b64_json": base64.b64encode(picture).decode()} for picture in pictures],
        "output_format": order.output_format,
        "quality": order.quality,
        "size": order.size_name,
        "usage": usage.to_json(with_output_details=order.model.reports_output_details),
    }
    if order.safety_identifier is not None:
        document["safety_identifier"] = order.safety_identifier
    return document


async def produce(
    order: ImageOrder, inputs: Inputs, fault: Fault | None, request_id: str, *, in_batch: bool = False
) -> tuple[bytes, dict[str, Any]]:
    """Return the response body, and the paid part of the entry in the books."""
    usage = order.count_usage(inputs.sizes)
    answer = await asyncio.to_thread(build_response_body, order, inputs, usage, fault, request_id)
    return answer, {
        "paid": True,
        "usage": usage.to_json(with_output_details=order.model.reports_output_details),
        "list_price_micro_usd": price_usage(order.model.family, usage, in_batch=in_batch),
    }


@dataclass
class _RequestContext:
    """What is known of one request so far."""

    endpoint: Endpoint
    request_id: str = field(default_factory=lambda: f"req_{uuid.uuid4().hex}")
    arrived_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    started: float = field(default_factory=time.monotonic)
    client_request_id: str | None = None
    project_id: str | None = None
    api_key_id: str | None = None
    order: ImageOrder | None = None
    fault: Fault | None = None

    def build_entry(self, *, repeated: bool, outcome: dict[str, Any]) -> BookEntry:
        """Build the entry for the books."""
        return BookEntry(
            time=self.arrived_at,
            request_id=self.request_id,
            client_request_id=self.client_request_id,
            client_request_id_repeated=repeated,
            project_id=self.project_id,
            api_key_id=self.api_key_id,
            endpoint=self.endpoint,
            fault=self.fault.kind.value if self.fault else None,
            **(get_order_fields(self.order) if self.order else {}),
            **outcome,
        )


class ImageHandlers:
    """Handlers of image requests. A client that disconnects does not stop the work: it is finished and paid."""

    def __init__(self, books: Books, script: FaultScript, limits: RateLimits, latency_seconds: float) -> None:
        """Delay every response, except refusals, by `latency_seconds`."""
        self._books = books
        self._script = script
        self._limits = limits
        self._latency_seconds = latency_seconds
        self.in_progress = 0

    async def generate(self, request: web.Request) -> web.StreamResponse:
        """Handle POST /v1/images/generations."""
        return await self._serve(request, _RequestContext("generations"), read_json)

    async def edit(self, request: web.Request) -> web.StreamResponse:
        """Handle POST /v1/images/edits."""
        return await self._serve(request, _RequestContext("edits"), read_multipart)

    async def _serve(
        self,
        request: web.Request,
        context: _RequestContext,
        read_body: Callable[[web.Request], Awaitable[Body]],
    ) -> web.StreamResponse:
        self.in_progress += 1
        try:
            check_key(request)
            context.project_id, context.api_key_id = read_project(request), get_key_id(request)
            context.client_request_id = read_client_request_id(request)
            return await self._work(request, context, await read_body(request))
        except ApiError as error:
            if context.order is None and error.status != HTTPStatus.UNAUTHORIZED:
                self._limits.images.count(1)  # the number of images is unknown, but the request counts
            self._record(context, {"status": error.status, "error_code": error.code})
            return build_error_response(error, self._build_headers(context))
        finally:
            self.in_progress -= 1

    async def _work(self, request: web.Request, context: _RequestContext, body: Body) -> web.StreamResponse:
        context.order = order = read_order(context.endpoint, body.parameters)
        self._limits.admit(order.model_name, images=order.n, input_images=len(body.inputs.images))
        context.fault = fault = self._take_fault(request, order)
        context.order = order = adapt_order(order, fault)
        seconds = self._latency_seconds + (fault.delay_seconds if fault else 0)
        refusal = build_refusal(fault, order.model_name) if fault else None
        if order.partial_images is not None and not refusal:
            return await self._stream(request, context, order, body, seconds)
        await asyncio.sleep(seconds)
        if refusal:
            raise refusal
        answer, outcome = b"", dict[str, Any]()
        if _is_paid(fault):
            answer, outcome = await produce(order, body.inputs, fault, context.request_id)
        self._record(context, {"status": get_status(fault), **outcome})
        return await deliver(request, answer, self._build_headers(context), fault)

    async def _stream(
        self, request: web.Request, context: _RequestContext, order: ImageOrder, body: Body, seconds: float
    ) -> web.StreamResponse:
        """Send the response event by event. The delay is spread over the events."""
        fault = context.fault
        partials = await asyncio.to_thread(draw_partials, order, body.inputs, context.request_id)
        answer, outcome = b"", dict[str, Any]()
        if _is_paid(fault):
            answer, outcome = await produce(order, body.inputs, fault, context.request_id)
        self._record(context, {"status": 200, **outcome})
        events = await asyncio.to_thread(build_events, order, partials, answer, fault)
        return await deliver_stream(
            request, events, self._build_headers(context), fault, seconds / len(events)
        )

    def _build_headers(self, context: _RequestContext) -> dict[str, str]:
        return build_headers(context.request_id, context.started) | self._limits.build_headers()

    def _record(self, context: _RequestContext, outcome: dict[str, Any]) -> None:
        repeated = self._books.has_client_request_id(context.client_request_id)
        self._books.record(context.build_entry(repeated=repeated, outcome=outcome))

    def _take_fault(self, request: web.Request, order: ImageOrder) -> Fault | None:
        try:
            fault = self._script.take_for(order.prompt)
        except ValueError as error:
            raise refuse("prompt", "unknown_fault", f"The prompt cannot be simulated: {error}.") from error
        if fault and fault.kind in STREAM_FAULTS and order.partial_images is None:
            message = f"The prompt cannot be simulated: {fault.kind.value} applies only to streams."
            raise refuse("prompt", "unknown_fault", message)
        followed = fault is not None and fault.kind is FaultKind.REDIRECT and REDIRECTED in request.query
        return None if followed else fault


def _is_paid(fault: Fault | None) -> bool:
    if fault is None:
        return True
    if fault.kind in GATEWAY_STATUSES or fault.kind is FaultKind.STREAM_ERROR:
        return fault.paid
    return fault.kind is not FaultKind.RESET_BEFORE
