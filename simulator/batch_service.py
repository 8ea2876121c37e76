"""Everything about batches in one piece: their files, their states, their faults and their routes."""

from collections.abc import Iterable

from aiohttp import web

from simulator.batch_faults import BatchFault, BatchFaultKind, BatchScript
from simulator.batch_handlers import BatchHandlers
from simulator.batch_lines import LineWorker
from simulator.batches import Batch, Batches
from simulator.books import Books
from simulator.file_handlers import FileHandlers
from simulator.script import FaultScript
from simulator.shelf import FileShelf


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
