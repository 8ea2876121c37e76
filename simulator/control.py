"""Control endpoints for tests and demos under /_simulator: faults and the request log. No key is needed."""

from typing import Annotated

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from simulator.faults import Fault, FaultKind, FaultScript, describe_problems
from simulator.http import ApiError
from simulator.images_api import ImageHandlers
from simulator.rate_limits import RateLimits
from simulator.request_log import Books
from simulator.responses import build_error_response


class ScriptRequest(BaseModel):
    """Faults for the next requests whose prompt contains `match` (omitted: any prompt), one fault a request."""

    model_config = ConfigDict(extra="forbid")

    faults: Annotated[list[Fault], Field(min_length=1)]
    match: str | None = None


class ControlHandlers:
    """Handlers of GET, POST and DELETE /_simulator/faults and of GET /_simulator/books."""

    def __init__(self, books: Books, script: FaultScript, images: ImageHandlers, limits: RateLimits) -> None:
        self._books = books
        self._script = script
        self._images = images
        self._limits = limits

    async def script_faults(self, request: web.Request) -> web.Response:
        """Queue faults and return the length of the queue."""
        try:
            wanted = ScriptRequest.model_validate_json(await request.read())
        except ValidationError as error:
            return build_error_response(ApiError(400, f"Invalid faults: {describe_problems(error)}."), {})
        self._script.add(wanted.faults, wanted.match)
        return web.json_response({"queued": len(self._script.queued)})

    async def show_faults(self, _: web.Request) -> web.Response:
        """Return every fault kind with its description and options, and the queued faults."""
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
        """Clear the queue and return how many faults were removed."""
        removed = len(self._script.queued)
        self._script.clear()
        return web.json_response({"removed": removed})

    async def show_books(self, _: web.Request) -> web.Response:
        """Return all entries, their totals, the requests in progress, and the use of the rate limits."""
        return web.json_response(
            {
                "entries": [entry.model_dump(mode="json") for entry in self._books.entries],
                "totals": self._books.get_totals(),
                "in_progress": self._images.in_progress,
                "limits": self._limits.get_totals(),
            }
        )
