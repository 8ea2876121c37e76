"""The requests of a batch, read page by page from the image store."""

from temporalio.exceptions import ApplicationError

from gpt_image_runs.contracts.batches import BatchLine, page_key, read_page, write_line
from gpt_image_runs.images.store import ImageStore

_KEPT = 2
"""Pages in memory: lines are started in their order, and a chunk of them lies on at most two."""


class BatchPages:
    """The pages of one batch; the last two that were read are kept."""

    def __init__(self, store: ImageStore, batch_id: str, digest: str) -> None:
        self._store = store
        self._batch_id = batch_id
        self._digest = digest
        self._pages: dict[int, tuple[BatchLine, ...]] = {}

    async def read(self, page: int) -> tuple[BatchLine, ...]:
        """The lines of a page.

        Raises:
            ApplicationError: it is not in the store; tried again until it is.
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
            while len(self._pages) >= _KEPT:
                self._pages.pop(next(iter(self._pages)))
            self._pages[page] = read_page(data)
        return self._pages[page]

    async def find(self, page: int, line: int) -> BatchLine:
        """One line of a page."""
        return next(found for found in await self.read(page) if found.line == line)

    async def copy_from(self, template_batch_id: str, page: int) -> None:
        """Copy a page of another batch, with request ids of this batch's own. The same again changes nothing.

        What this batch's id has beyond that of the template is appended to each request id: a scheduled batch
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
