"""What tests and demos ask of the simulator itself, under /_simulator: its faults and its books. No key is needed."""

from typing import Annotated

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from simulator.faults import Fault, FaultKind, FaultScript, describe_problems
from simulator.http import ApiError
from simulator.images_api import ImageHandlers
from simulator.rate_limits import RateLimits
from simulator.request_log import Books
from simulator.responses import answer_error


class ScriptRequest(BaseModel):
    """Faults for the next requests, one each, whose prompt contains `match` (left out: any request)."""

    model_config = ConfigDict(extra="forbid")

    faults: Annotated[list[Fault], Field(min_length=1)]
    match: str | None = None


class ControlHandlers:
    """GET, POST and DELETE /_simulator/faults, GET /_simulator/books."""

    def __init__(self, books: Books, script: FaultScript, images: ImageHandlers, limits: RateLimits) -> None:
        self._books = books
        self._script = script
        self._images = images
        self._limits = limits

    async def script_faults(self, request: web.Request) -> web.Response:
        """Queues faults; answers with how many wait."""
        try:
            wanted = ScriptRequest.model_validate_json(await request.read())
        except ValidationError as error:
            return answer_error(
                ApiError(400, f"These faults cannot be scripted: {describe_problems(error)}."), {}
            )
        self._script.add(wanted.faults, wanted.match)
        return web.json_response({"queued": len(self._script.queued)})

    async def show_faults(self, _: web.Request) -> web.Response:
        """Every kind with its description and options, and what is queued."""
        kinds = {
            kind.value: {"description": kind.description, "options": [*kind.options, "delay_seconds"]}
            for kind in FaultKind
        }
        queued = [
            {**scripted.fault.model_dump(mode="json", exclude_unset=True), "match": scripted.match}
            for scripted in self._script.queued
        ]
        return web.json_response({"kinds": kinds, "queued": queued})

    async def clear_faults(self, _: web.Request) -> web.Response:
        """Forgets what is queued; answers with how many faults that were."""
        removed = len(self._script.queued)
        self._script.clear()
        return web.json_response({"removed": removed})

    async def show_books(self, _: web.Request) -> web.Response:
        """Every entry, the totals, how many requests are being worked on, and what is used of the limits."""
        document = {
            "entries": [entry.model_dump(mode="json") for entry in self._books.entries],
            "totals": self._books.sum_up(),
            "in_progress": self._images.in_progress,
            "limits": self._limits.sum_up(),
        }
        return web.json_response(document)
