"""The pages of a batch on their way into the image store: kept in a folder of this machine until all lines are known."""

from pathlib import Path

from contracts.batch_pages import LARGEST_PAGE, LINES_A_PAGE, BatchLine, page_key, write_line
from imaging.store import ImageStore


class PageSpool:
    """Writes lines into pages, and pages into a store. `pages` and `lines` are how many there are so far."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._page = b""
        self._lines_on_page = 0
        self.pages = 0
        self.lines = 0

    def add(self, line: BatchLine) -> None:
        """Appends a line."""
        self._page += write_line(line)
        self._lines_on_page += 1
        self.lines += 1
        if self._lines_on_page == LINES_A_PAGE or len(self._page) >= LARGEST_PAGE:
            self.close_page()

    def close_page(self) -> None:
        """Ends a page that has been begun."""
        if self._page:
            self._path(self.pages).write_bytes(self._page)
            self.pages += 1
            self._page, self._lines_on_page = b"", 0

    async def upload(self, store: ImageStore, batch_id: str, digest: str) -> None:
        """Puts all pages into the store. Raises StoreUnavailable."""
        for page in range(self.pages):
            await store.put_document(page_key(batch_id, digest, page), self._path(page).read_bytes())

    def _path(self, page: int) -> Path:
        return self._folder / f"{page:05d}"
