"""The file of a contact sheet: written aside while it grows, whole when it gets its name."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cli.failures import CommandFailed


class SheetFile:
    """Collects cards on disk, since what stands before them, the totals, is known last. Blocking.

    All methods raise CommandFailed where the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._draft = path.with_name(f".{path.name}.part")
        with _told(path):
            if path.is_dir():
                raise IsADirectoryError(0, "it is a folder")
            path.parent.mkdir(parents=True, exist_ok=True)
            self._cards = tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115 - closed in `close`

    def add(self, card: str) -> None:
        """Appends a card."""
        with _told(self._path):
            self._cards.write(card.encode())

    def finish(self, head: str, foot: str) -> int:
        """Writes the whole page in place of what was there, and returns its bytes."""
        with _told(self._path):
            self._cards.seek(0)
            with self._draft.open("wb") as page:
                page.write(head.encode())
                shutil.copyfileobj(self._cards, page, 1024 * 1024)
                page.write(foot.encode())
                size = page.tell()
            self._draft.replace(self._path)
            return size

    def close(self) -> None:
        """Leaves nothing but a finished page."""
        with suppress(OSError):
            self._cards.close()
        with suppress(OSError):
            self._draft.unlink()


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise CommandFailed(
            f"The contact sheet {path} cannot be written ({why}). Choose another place."
        ) from error
