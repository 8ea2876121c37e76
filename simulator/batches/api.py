"""The batch endpoints, and what tests and demos ask of batches under /_simulator."""

import time
import uuid
from collections.abc import Iterable
from typing import Annotated, Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from simulator.batches.batches import Batch, Batches, read_batch_order
from simulator.batches.faults import BatchFault, BatchFaultKind, BatchScript
from simulator.batches.files import FileHandlers, FileShelf
from simulator.batches.lines import LineWorker
from simulator.faults import FaultScript, describe_problems
from simulator.http import ApiError, check_key, name_key, read_project, refuse, write_headers
from simulator.request_log import Books
from simulator.request_parsing import read_json
from simulator.responses import answer_error, hang, reset

_USUAL_LIMIT, _MAX_LIMIT = 20, 100


class BatchFaultRequest(BaseModel):
    """Faults for the next batches or downloads."""

    model_config = ConfigDict(extra="forbid")

    faults: Annotated[list[BatchFault], Field(min_length=1)]


class StepRequest(BaseModel):
    """One step of a batch, of at most so many lines."""

    model_config = ConfigDict(extra="forbid")

    lines: Annotated[int, Field(ge=1)] | None = None


class BatchHandlers:
    """Serves batches. With `advance_when_seen` each look at a batch moves it on by a step: time, for demos."""

    def __init__(self, batches: Batches, script: BatchScript, *, advance_when_seen: bool) -> None:
        self._batches = batches
        self._script = script
        self._advance_when_seen = advance_when_seen

    async def create(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/batches."""
        started = time.monotonic()
        check_key(request)
        body = await read_json(request)
        order = read_batch_order(body.parameters)
        batch = self._batches.create(order, read_project(request), name_key(request))
        if self._script.take(BatchFaultKind.CREATE_REPLY_LOST):
            return reset(request)
        if self._script.take(BatchFaultKind.CREATE_REPLY_HANGS):
            return await hang(request)
        return _answer(batch.describe(), started)

    async def show(self, request: web.Request) -> web.Response:
        """GET /v1/batches/{batch_id}."""
        started = time.monotonic()
        check_key(request)
        batch = self._batches.find(request.match_info["batch_id"])
        if self._advance_when_seen:
            await self._batches.advance(batch)
        return _answer(batch.describe(), started)

    async def list(self, request: web.Request) -> web.Response:
        """GET /v1/batches, the newest first."""
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
        """POST /v1/batches/{batch_id}/cancel."""
        started = time.monotonic()
        check_key(request)
        batch = self._batches.find(request.match_info["batch_id"])
        self._batches.cancel(batch)
        return _answer(batch.describe(), started)

    async def show_all(self, _: web.Request) -> web.Response:
        """GET /_simulator/batches: every batch, the oldest first."""
        return web.json_response({"batches": [batch.describe() for batch in self._batches.all]})

    async def advance(self, request: web.Request) -> web.Response:
        """POST /_simulator/batches/{batch_id}/advance: one step."""
        batch = self._batches.find(request.match_info["batch_id"])
        try:
            step = StepRequest.model_validate_json(await request.read() or b"{}")
        except ValidationError as error:
            return answer_error(ApiError(400, f"This is no step: {describe_problems(error)}."), {})
        await self._batches.advance(batch, step.lines)
        return web.json_response(batch.describe())

    async def script_faults(self, request: web.Request) -> web.Response:
        """POST /_simulator/batch_faults: queues faults; answers with how many wait."""
        try:
            wanted = BatchFaultRequest.model_validate_json(await request.read())
        except ValidationError as error:
            return answer_error(
                ApiError(400, f"These faults cannot be scripted: {describe_problems(error)}."), {}
            )
        self._script.add(*wanted.faults)
        return web.json_response({"queued": len(self._script.queued)})


def _read_limit(text: str | None) -> int:
    if text is None:
        return _USUAL_LIMIT
    limit = int(text) if text.isascii() and text.isdigit() and len(text) <= len(str(_MAX_LIMIT)) else 0
    if not 1 <= limit <= _MAX_LIMIT:
        raise refuse("limit", "invalid_value", f"Invalid 'limit': expected 1 to {_MAX_LIMIT}.")
    return limit


def _answer(document: Any, started: float) -> web.Response:
    return web.json_response(document, headers=write_headers(f"req_{uuid.uuid4().hex}", started))


class BatchService:
    """The batches of a simulator, as tests steer them: a batch moves on when it is told to, or with every look at it."""

    def __init__(self, books: Books, script: FaultScript, seed: int, *, advance_when_seen: bool) -> None:
        self._script = BatchScript()
        self.shelf = FileShelf()
        self._batches = Batches(self.shelf, LineWorker(books, script), self._script, seed)
        self._handlers = BatchHandlers(self._batches, self._script, advance_when_seen=advance_when_seen)

    @property
    def all(self) -> tuple[Batch, ...]:
        """Every batch that was created, the oldest first."""
        return self._batches.all

    async def advance(self, batch: Batch, lines: int | None = None) -> None:
        """Moves a batch on by one step: its check, all of its lines (or only so many), its end."""
        await self._batches.advance(batch, lines)

    async def finish(self, batch: Batch) -> None:
        """Moves a batch on to its end."""
        await self._batches.finish(batch)

    def script(self, kind: BatchFaultKind, lines: int = 0) -> None:
        """Lets a fault strike the next batch, or the next download of a file."""
        self._script.add(BatchFault(kind=kind, lines=lines))

    def list_routes(self) -> Iterable[web.RouteDef]:
        """The provider's routes, and those under /_simulator."""
        files, batches = FileHandlers(self.shelf, self._script), self._handlers
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
