"""Run the simulated provider as an HTTP server: its routes, start and stop."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from aiohttp import web

from simulator.batches.api import BatchService
from simulator.control import ControlHandlers
from simulator.faults import Fault, FaultKind, FaultScript, read_fault
from simulator.http import ApiError, StartupError, check_key
from simulator.images_api import ImageHandlers
from simulator.models import MODELS
from simulator.rate_limits import RateLimits
from simulator.request_log import Books
from simulator.responses import build_error_response
from simulator.usage_api import OrganizationHandlers

_MAX_JSON_BODY_BYTES = 1024 * 1024
_SHUTDOWN_SECONDS = 0.2
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Simulator:
    """An OpenAI-compatible Images API that runs offline.

        async with Simulator() as simulator:
            client = AsyncOpenAI(base_url=simulator.base_url, api_key="any", max_retries=0)
            ...
            simulator.books.paid

    Requests in progress when it stops are aborted, and are not paid unless the books already say so.
    """

    def __init__(
        self,
        *,
        books_path: Path | None = None,
        latency_seconds: float = 0.0,
        fault_rates: Mapping[str, float] | None = None,
        seed: int = 0,
        images_per_minute: int | None = None,
        input_images_per_minute: int | None = None,
        batches_advance_when_seen: bool = False,
    ) -> None:
        """Configure a simulator; `start` makes it listen.

        `books_path` writes the books to a file, `latency_seconds` delays every image request. `fault_rates` are
        probabilities by fault, such as {"server_error": 0.1, "delay=2": 0.2}, drawn with `seed`. `images_per_minute` is the
        organization's limit (None: no limit), and also that of input images unless `input_images_per_minute` is given.
        A batch advances when a test calls `batches.advance`, or with every request for it if `batches_advance_when_seen`.

        Raises:
            StartupError: the books cannot be read, or a rate or a limit is not valid.
        """
        self.books = Books(books_path)
        self._script = FaultScript(fault_rates or {}, seed)
        inputs = images_per_minute if input_images_per_minute is None else input_images_per_minute
        self._limits = RateLimits(images_per_minute, inputs)
        self._images = ImageHandlers(self.books, self._script, self._limits, latency_seconds)
        self.batches = BatchService(
            self.books, self._script, seed, advance_when_seen=batches_advance_when_seen
        )
        self._runner: web.AppRunner | None = None
        self._base_url = ""

    @property
    def base_url(self) -> str:
        """The client's base URL, "http://127.0.0.1:PORT/v1". Only while the simulator runs."""
        if self._runner is None:
            raise RuntimeError("The simulator is not running: start it first.")
        return self._base_url

    @property
    def in_progress(self) -> int:
        """How many image requests have arrived and have no response yet."""
        return self._images.in_progress

    def script(self, *faults: Fault | FaultKind | str, match: str | None = None) -> None:
        """Queue faults for the next image requests whose prompt contains `match`, one each.

        A fault is a `Fault`, a `FaultKind` or text as in a prompt: "rate_limited,seconds=2,header=http-date".

        Raises:
            ValueError: a fault is unknown.
        """
        self._script.add([read_fault(fault) for fault in faults], match)

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen. Port 0 takes any free one.

        Raises:
            StartupError: the port is taken or not valid.
        """
        runner = web.AppRunner(self._build_app(), access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port).start()
        except (OSError, OverflowError) as error:
            await runner.cleanup()
            raise StartupError(
                f"The simulator cannot listen on {host}:{port}: {error}. Use port 0 for any free one."
            ) from error
        self._runner = runner
        self._base_url = f"http://{host}:{runner.addresses[0][1]}/v1"

    async def stop(self) -> None:
        """Stop listening and abort requests in progress. Do nothing if it is not running."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()
            self.batches.file_store.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    def _build_app(self) -> web.Application:
        control = ControlHandlers(self.books, self._script, self._images, self._limits)
        organization = OrganizationHandlers(self.books)
        app = web.Application(client_max_size=_MAX_JSON_BODY_BYTES, middlewares=[_format_errors])
        app.add_routes(
            [
                web.post("/v1/images/generations", self._images.generate),
                web.post("/v1/images/edits", self._images.edit),
                web.get("/v1/models", _list_models),
                web.get("/v1/organization/usage/images", organization.show_image_usage),
                web.get("/v1/organization/costs", organization.show_costs),
                web.get("/_simulator/books", control.show_books),
                web.get("/_simulator/faults", control.show_faults),
                web.post("/_simulator/faults", control.script_faults),
                web.delete("/_simulator/faults", control.clear_faults),
                *self.batches.list_routes(),
            ]
        )
        return app


@web.middleware
async def _format_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn errors, also unknown paths, wrong methods and too large bodies, into the provider's format."""
    try:
        return await handler(request)
    except ApiError as error:
        return build_error_response(error, {})
    except ConnectionError:
        return web.Response()  # the client disconnected before its request was complete
    except web.HTTPException as error:
        what = {404: "Invalid URL", 405: "Not allowed", 413: "The body is too large"}.get(
            error.status, error.reason
        )
        return build_error_response(ApiError(error.status, f"{what} ({request.method} {request.path})"), {})


async def _list_models(request: web.Request) -> web.Response:
    """Handle GET /v1/models."""
    check_key(request)
    models = [
        {
            "id": name,
            "object": "model",
            "created": int(datetime.fromisoformat(model.released).replace(tzinfo=UTC).timestamp()),
            "owned_by": "simulator",
            "shutdown_date": model.shutdown_date,
        }
        for name, model in MODELS.items()
    ]
    return web.json_response({"object": "list", "data": models}, headers={"x-simulated": "true"})
