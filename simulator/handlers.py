"""The two image endpoints: from a request to an answer and an entry in the books."""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from aiohttp import web

from simulator.books import BookEntry, Books, describe_order
from simulator.delivery import (
    GATEWAY_STATUSES,
    REDIRECTED,
    answer_error,
    deliver,
    find_status,
)
from simulator.errors import ApiError, refuse
from simulator.faults import Fault, FaultKind
from simulator.headers import check_key, name_key, read_client_request_id, read_project, write_headers
from simulator.limits import RateLimits
from simulator.orders import Endpoint, ImageOrder
from simulator.production import produce
from simulator.reading import Body, read_json, read_multipart
from simulator.refusals import build_refusal
from simulator.script import FaultScript
from simulator.streams import STREAM_FAULTS, deliver_stream, fit_to_fault, write_events
from simulator.studio import draw_partials
from simulator.validation import read_order


@dataclass
class _Visit:
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

    def write_entry(self, *, repeated: bool, outcome: dict[str, Any]) -> BookEntry:
        """The entry for the books, with how it ended."""
        return BookEntry(
            time=self.arrived_at,
            request_id=self.request_id,
            client_request_id=self.client_request_id,
            client_request_id_repeated=repeated,
            project_id=self.project_id,
            api_key_id=self.api_key_id,
            endpoint=self.endpoint,
            fault=self.fault.kind.value if self.fault else None,
            **(describe_order(self.order) if self.order else {}),
            **outcome,
        )


class ImageHandlers:
    """Serves image requests. A client that goes away does not stop the work: it is done, and paid, all the same."""

    def __init__(self, books: Books, script: FaultScript, limits: RateLimits, latency_seconds: float) -> None:
        """`latency_seconds` is what every answer takes at least, apart from refusals."""
        self._books = books
        self._script = script
        self._limits = limits
        self._latency_seconds = latency_seconds
        self.in_progress = 0

    async def generate(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/images/generations."""
        return await self._serve(request, _Visit("generations"), read_json)

    async def edit(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/images/edits."""
        return await self._serve(request, _Visit("edits"), read_multipart)

    async def _serve(
        self, request: web.Request, visit: _Visit, read_body: Callable[[web.Request], Awaitable[Body]]
    ) -> web.StreamResponse:
        self.in_progress += 1
        try:
            check_key(request)
            visit.project_id, visit.api_key_id = read_project(request), name_key(request)
            visit.client_request_id = read_client_request_id(request)
            return await self._work(request, visit, await read_body(request))
        except ApiError as error:
            if visit.order is None and error.status != HTTPStatus.UNAUTHORIZED:
                self._limits.images.count(1)  # what was asked for is not known, but it was a request
            self._record(visit, {"status": error.status, "error_code": error.code})
            return answer_error(error, self._write_headers(visit))
        finally:
            self.in_progress -= 1

    async def _work(self, request: web.Request, visit: _Visit, body: Body) -> web.StreamResponse:
        visit.order = order = read_order(visit.endpoint, body.parameters)
        self._limits.admit(order.model_name, images=order.n, input_images=len(body.inputs.images))
        visit.fault = fault = self._take_fault(request, order)
        visit.order = order = fit_to_fault(order, fault)
        seconds = self._latency_seconds + (fault.delay_seconds if fault else 0)
        refusal = build_refusal(fault, order.model_name) if fault else None
        if order.partial_images is not None and not refusal:
            return await self._stream(request, visit, order, body, seconds)
        await asyncio.sleep(seconds)
        if refusal:
            raise refusal
        answer, outcome = b"", dict[str, Any]()
        if _is_paid(fault):
            answer, outcome = await produce(order, body.inputs, fault, visit.request_id)
        self._record(visit, {"status": find_status(fault), **outcome})
        return await deliver(request, answer, self._write_headers(visit), fault)

    async def _stream(
        self, request: web.Request, visit: _Visit, order: ImageOrder, body: Body, seconds: float
    ) -> web.StreamResponse:
        """Answers event by event: the time that it takes lies before each of them."""
        fault = visit.fault
        partials = await asyncio.to_thread(draw_partials, order, body.inputs, visit.request_id)
        answer, outcome = b"", dict[str, Any]()
        if _is_paid(fault):
            answer, outcome = await produce(order, body.inputs, fault, visit.request_id)
        self._record(visit, {"status": 200, **outcome})
        events = await asyncio.to_thread(write_events, order, partials, answer, fault)
        return await deliver_stream(request, events, self._write_headers(visit), fault, seconds / len(events))

    def _write_headers(self, visit: _Visit) -> dict[str, str]:
        return write_headers(visit.request_id, visit.started) | self._limits.write_headers()

    def _record(self, visit: _Visit, outcome: dict[str, Any]) -> None:
        repeated = self._books.knows_client_request_id(visit.client_request_id)
        self._books.record(visit.write_entry(repeated=repeated, outcome=outcome))

    def _take_fault(self, request: web.Request, order: ImageOrder) -> Fault | None:
        try:
            fault = self._script.take_for(order.prompt)
        except ValueError as error:
            raise refuse("prompt", "unknown_fault", f"The prompt cannot be simulated: {error}.") from error
        if fault and fault.kind in STREAM_FAULTS and order.partial_images is None:
            message = f"The prompt cannot be simulated: {fault.kind.value} is for streams alone."
            raise refuse("prompt", "unknown_fault", message)
        followed = fault is not None and fault.kind is FaultKind.REDIRECT and REDIRECTED in request.query
        return None if followed else fault


def _is_paid(fault: Fault | None) -> bool:
    if fault is None:
        return True
    if fault.kind in GATEWAY_STATUSES or fault.kind is FaultKind.STREAM_ERROR:
        return fault.paid
    return fault.kind is not FaultKind.RESET_BEFORE
