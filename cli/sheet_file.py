"""The file of a contact sheet: written aside while it grows, whole when it gets its name."""

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from cli.whole_files import make_room, replace_whole, tell_unwritable


class SheetFile:
    """Collects cards on disk, since what stands before them, the totals, is known last. Blocking.

    All methods raise CommandFailed where the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._what = f"The contact sheet {path}"
        with tell_unwritable(self._what):
            make_room(path)
            self._cards = tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115 - closed in `close`

    def add(self, card: str) -> None:
        """Appends a card."""
        with tell_unwritable(self._what):
            self._cards.write(card.encode())

    def finish(self, head: str, foot: str) -> int:
        """Writes the whole page in place of what was there, and returns its bytes."""
        with tell_unwritable(self._what):
            self._cards.seek(0)
            with replace_whole(self._path) as page:
                page.write(head.encode())
                shutil.copyfileobj(self._cards, page, 1024 * 1024)
                page.write(foot.encode())
                return page.tell()

    def close(self) -> None:
        """Leaves nothing but a finished page."""
        with suppress(OSError):
            self._cards.close()
