"""Serve the batch endpoints, and the control endpoints for batches under /_simulator."""

import time
import uuid
from collections.abc import Iterable
from typing import Annotated, Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from simulator.batches.batches import Batch, Batches, read_batch_order
from simulator.batches.faults import BatchFault, BatchFaultKind, BatchScript
from simulator.batches.files import FileHandlers, FileStore
from simulator.batches.lines import LineWorker
from simulator.faults import FaultScript, describe_problems
from simulator.http import ApiError, build_headers, check_key, get_key_id, read_project, refuse
from simulator.request_log import Books
from simulator.request_parsing import read_json
from simulator.responses import build_error_response, hang, reset

_DEFAULT_LIMIT, _MAX_LIMIT = 20, 100


class BatchFaultRequest(BaseModel):
    """Faults for the next batches or downloads."""

    model_config = ConfigDict(extra="forbid")

    faults: Annotated[list[BatchFault], Field(min_length=1)]


class StepRequest(BaseModel):
    """One step of a batch, of at most `lines` lines."""

    model_config = ConfigDict(extra="forbid")

    lines: Annotated[int, Field(ge=1)] | None = None


class BatchHandlers:
    """Handlers of batch requests. `advance_when_seen` advances a batch by a step with each GET of it."""

    def __init__(self, batches: Batches, script: BatchScript, *, advance_when_seen: bool) -> None:
        self._batches = batches
        self._script = script
        self._advance_when_seen = advance_when_seen

    async def create(self, request: web.Request) -> web.StreamResponse:
        """Handle POST /v1/batches."""
        started = time.monotonic()
        check_key(request)
        body = await read_json(request)
        order = read_batch_order(body.parameters)
        batch = self._batches.create(order, read_project(request), get_key_id(request))
        if self._script.take(BatchFaultKind.CREATE_REPLY_LOST):
            return reset(request)
        if self._script.take(BatchFaultKind.CREATE_REPLY_HANGS):
            return await hang(request)
        return _answer(batch.describe(), started)

    async def show(self, request: web.Request) -> web.Response:
        """Handle GET /v1/batches/{batch_id}."""
        started = time.monotonic()
        check_key(request)
        batch = self._batches.find(request.match_info["batch_id"])
        if self._advance_when_seen:
            await self._batches.advance(batch)
        return _answer(batch.describe(), started)

    async def list(self, request: web.Request) -> web.Response:
        """Handle GET /v1/batches, newest first."""
        started = time.monotonic()
        check_key(request)
        for name in request.query.keys() - {"after", "limit"}:
            raise refuse(name, "unknown_parameter", f"Unknown parameter: '{name}'.")
        limit, after = _read_limit(request.query.get("limit")), request.query.get("after")
        newest = self._batches.all[::-1]
        if after is not None:
            newest = newest[newest.index(self._batches.find(after)) + 1 :]
        data = [batch.describe() for batch in newest[:limit]]
        page = {
            "object": "list",
            "data": data,
            "first_id": data[0]["id"] if data else None,
            "last_id": data[-1]["id"] if data else None,
            "has_more": len(newest) > limit,
        }
        return _answer(page, started)

    async def cancel(self, request: web.Request) -> web.Response:
        """Handle POST /v1/batches/{batch_id}/cancel."""
        started = time.monotonic()
        check_key(request)
        batch = self._batches.find(request.match_info["batch_id"])
        self._batches.cancel(batch)
        return _answer(batch.describe(), started)

    async def show_all(self, _: web.Request) -> web.Response:
        """Handle GET /_simulator/batches: all batches, oldest first."""
        return web.json_response({"batches": [batch.describe() for batch in self._batches.all]})

    async def advance(self, request: web.Request) -> web.Response:
        """Handle POST /_simulator/batches/{batch_id}/advance: run one step."""
        batch = self._batches.find(request.match_info["batch_id"])
        try:
            step = StepRequest.model_validate_json(await request.read() or b"{}")
        except ValidationError as error:
            return build_error_response(ApiError(400, f"Invalid step: {describe_problems(error)}."), {})
        await self._batches.advance(batch, step.lines)
        return web.json_response(batch.describe())

    async def script_faults(self, request: web.Request) -> web.Response:
        """Handle POST /_simulator/batch_faults: queue faults and return the length of the queue."""
        try:
            wanted = BatchFaultRequest.model_validate_json(await request.read())
        except ValidationError as error:
            return build_error_response(ApiError(400, f"Invalid faults: {describe_problems(error)}."), {})
        self._script.add(*wanted.faults)
        return web.json_response({"queued": len(self._script.queued)})


def _read_limit(text: str | None) -> int:
    if text is None:
        return _DEFAULT_LIMIT
    limit = int(text) if text.isascii() and text.isdigit() and len(text) <= len(str(_MAX_LIMIT)) else 0
    if not 1 <= limit <= _MAX_LIMIT:
        raise refuse("limit", "invalid_value", f"Invalid 'limit': expected 1 to {_MAX_LIMIT}.")
    return limit


def _answer(document: Any, started: float) -> web.Response:
    return web.json_response(document, headers=build_headers(f"req_{uuid.uuid4().hex}", started))


class BatchService:
    """The batches of a simulator, as tests steer them."""

    def __init__(self, books: Books, script: FaultScript, seed: int, *, advance_when_seen: bool) -> None:
        self._script = BatchScript()
        self.file_store = FileStore()
        self._batches = Batches(self.file_store, LineWorker(books, script), self._script, seed)
        self._handlers = BatchHandlers(self._batches, self._script, advance_when_seen=advance_when_seen)

    @property
    def all(self) -> tuple[Batch, ...]:
        """All batches, oldest first."""
        return self._batches.all

    async def advance(self, batch: Batch, lines: int | None = None) -> None:
        """Advance a batch by one step: validation, its lines (all or `lines` of them), or completion."""
        await self._batches.advance(batch, lines)

    async def finish(self, batch: Batch) -> None:
        """Advance a batch until it has ended."""
        await self._batches.finish(batch)

    def script(self, kind: BatchFaultKind, lines: int = 0) -> None:
        """Queue a fault for the next batch, or for the next download of a file."""
        self._script.add(BatchFault(kind=kind, lines=lines))

    def list_routes(self) -> Iterable[web.RouteDef]:
        """List the provider's routes, and those under /_simulator."""
        files, batches = FileHandlers(self.file_store, self._script), self._handlers
        return [
            web.post("/v1/files", files.upload),
            web.get("/v1/files/{file_id}", files.show),
            web.get("/v1/files/{file_id}/content", files.read),
            web.delete("/v1/files/{file_id}", files.delete),
            web.post("/v1/batches", batches.create),
            web.get("/v1/batches", batches.list),
            web.get("/v1/batches/{batch_id}", batches.show),
            web.post("/v1/batches/{batch_id}/cancel", batches.cancel),
            web.get("/_simulator/batches", batches.show_all),
            web.post("/_simulator/batches/{batch_id}/advance", batches.advance),
            web.post("/_simulator/batch_faults", batches.script_faults),
        ]
