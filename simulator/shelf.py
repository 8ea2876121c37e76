"""The files that clients upload and that batches write: on disk, as they can be larger than anybody wants in memory."""

import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from simulator.errors import ApiError

Purpose = Literal["batch", "batch_output"]
_KEPT_SECONDS = 30 * 86_400


@dataclass(frozen=True)
class StoredFile:
    """A file and what is told of it. It is written to `path` before anybody hears of it."""

    file_id: str
    filename: str
    purpose: Purpose
    created_at: int
    path: Path

    def describe(self) -> dict[str, Any]:
        """The provider's file object."""
        return {
            "id": self.file_id,
            "object": "file",
            "bytes": self.path.stat().st_size,
            "created_at": self.created_at,
            "expires_at": self.created_at + _KEPT_SECONDS,
            "filename": self.filename,
            "purpose": self.purpose,
            "status": "processed",
        }


class FileShelf:
    """Files by id, in a temporary folder that goes with the simulator."""

    def __init__(self) -> None:
        self._folder: TemporaryDirectory[str] | None = None
        self._files: dict[str, StoredFile] = {}

    @property
    def files(self) -> tuple[StoredFile, ...]:
        """All files that were put here and not removed, the oldest first."""
        return tuple(self._files.values())

    def prepare(self, filename: str, purpose: Purpose) -> StoredFile:
        """A place for a new file: write to its path, then `put` it."""
        if self._folder is None:
            self._folder = TemporaryDirectory(prefix="simulator-files-", ignore_cleanup_errors=True)
        file_id = f"file-{uuid.uuid4().hex[:24]}"
        path = Path(self._folder.name) / file_id
        path.touch()
        return StoredFile(file_id, filename, purpose, int(time.time()), path)

    def put(self, file: StoredFile) -> None:
        """Lets everybody see a file that is written."""
        self._files[file.file_id] = file

    def find(self, file_id: str) -> StoredFile:
        """A file by its id.

        Raises:
            ApiError: 404, there is none.
        """
        if file_id not in self._files:
            raise ApiError(404, f"No such File object: {file_id[:80]}", param="id")
        return self._files[file_id]

    def remove(self, file_id: str) -> None:
        """Removes a file for good.

        Raises:
            ApiError: 404, there is none.
        """
        self.find(file_id).path.unlink(missing_ok=True)
        del self._files[file_id]

    def close(self) -> None:
        """Forgets and removes everything."""
        self._files.clear()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None
