"""A lock that a process holds on a file, and that the operating system takes back when the process ends, however it ends."""

import os
import sys
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

# Beyond what the file holds: on Windows a locked byte cannot be read by others, and its text is for reading.
_LOCKED_BYTE = 1 << 30


class FileLocked(Exception):
    """Another process holds the lock."""


class FileLock:
    """The lock of one file. The file itself stays: to delete it would let two processes hold a lock of one name."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def take(self, text: str) -> None:
        """Takes the lock and writes `text` into the file, for whoever asks who holds it.

        Raises:
            FileLocked: it is held.
            OSError: the file cannot be made or opened.
        """
        descriptor = os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            _lock(descriptor)
        except OSError:
            os.close(descriptor)
            raise FileLocked(str(self._path)) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, text.encode())
        self._descriptor = descriptor

    def release(self) -> None:
        """Gives the lock back, where this object holds it."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None

    def is_held(self) -> bool:
        """Whether some process holds the lock."""
        try:
            descriptor = os.open(self._path, os.O_RDWR)
        except OSError:
            return False
        try:
            _lock(descriptor)
        except OSError:
            return True
        finally:
            os.close(descriptor)
        return False


def _lock(descriptor: int) -> None:
    """Locks without waiting; closing the descriptor unlocks. Raises OSError where somebody else holds it."""
    if sys.platform == "win32":
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        os.lseek(descriptor, 0, os.SEEK_SET)
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
