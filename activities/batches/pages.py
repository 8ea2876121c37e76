"""The pages of a batch in the image store, and how they are registered in the database."""

import asyncio

from temporalio.exceptions import ApplicationError

from gpt_image_runs.batches.batches import Batches
from gpt_image_runs.batches.models import NewLine
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.batches import BatchLine, BatchOrder, page_key, read_page, write_line
from gpt_image_runs.contracts.economy import EconomyOrder
from gpt_image_runs.images.store import ImageStore

# Pages in memory: lines are started in their order, and a chunk of them is on at most two pages.
_MAX_PAGES_IN_MEMORY = 2
_NO_ID = "The line has no request_id: `starter.py batch run` gives each line one."


class BatchPages:
    """The pages of one batch. The last two that were read stay in memory."""

    def __init__(self, store: ImageStore, batch_id: str, digest: str) -> None:
        self._store = store
        self._batch_id = batch_id
        self._digest = digest
        self._pages: dict[int, tuple[BatchLine, ...]] = {}

    async def read(self, page: int) -> tuple[BatchLine, ...]:
        """Read the lines of a page.

        Raises:
            ApplicationError: type `PageNotFound`, it is not in the store; retried until it is.
            StoreUnavailable: the store does not answer.
        """
        if page not in self._pages:
            key = page_key(self._batch_id, self._digest, page)
            data = await self._store.read_document(key)
            if data is None:
                raise ApplicationError(
                    f"The page {key} is not in the image store {self._store.root}: is it the one that"
                    " `starter.py batch run` has written to?",
                    type="PageNotFound",
                )
            while len(self._pages) >= _MAX_PAGES_IN_MEMORY:
                self._pages.pop(next(iter(self._pages)))
            self._pages[page] = read_page(data)
        return self._pages[page]

    async def find(self, page: int, line: int) -> BatchLine:
        """Find a line of a page by its number in the file."""
        return next(found for found in await self.read(page) if found.line == line)

    async def copy_from(self, template_batch_id: str, page: int) -> None:
        """Copy a page of another batch with request ids of this batch's own. Idempotent.

        The part of this batch's id beyond that of the template is appended to each request id: a scheduled batch
        `nightly-20261128T020000Z` makes `nightly-000001-20261128T020000Z` of `nightly-000001`. Errors as for `read`.
        """
        suffix = self._batch_id.removeprefix(template_batch_id)
        template = BatchPages(self._store, template_batch_id, self._digest)
        lines = [_append_to_request_id(line, suffix) for line in await template.read(page)]
        key = page_key(self._batch_id, self._digest, page)
        await self._store.put_document(key, b"".join(map(write_line, lines)))


def _append_to_request_id(line: BatchLine, suffix: str) -> BatchLine:
    request_id = (line.request or {}).get("request_id")
    if line.request is None or not isinstance(request_id, str):
        return line
    return line.model_copy(update={"request": {**line.request, "request_id": request_id + suffix}})


async def register_batch(
    batches: Batches, store: ImageStore, order: BatchOrder | EconomyOrder, number: int = 1
) -> None:
    """Open a batch for a round, and register the pages that are not registered yet. Idempotent.

    Raises:
        BatchConflict: the id stands for other lines, or for a batch of the other kind.
    """
    pages = BatchPages(store, order.batch_id, order.digest)
    first = await asyncio.to_thread(batches.open, order, number)
    for page in range(first, order.pages):
        if order.template_batch_id:
            await pages.copy_from(order.template_batch_id, page)
        lines = [_new_line(line) for line in await pages.read(page)]
        await asyncio.to_thread(batches.register, order.batch_id, page, lines)


def _new_line(line: BatchLine) -> NewLine:
    request_id = (line.request or {}).get("request_id")
    if line.request is None or not isinstance(request_id, str):
        return NewLine(line=line.line, run_id=None, problem=line.problem or _NO_ID)
    tenant = line.request.get("tenant") or "default"
    return NewLine(line=line.line, run_id=names.run_id_for(str(tenant), request_id))
