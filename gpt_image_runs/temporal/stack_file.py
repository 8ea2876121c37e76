"""Publish the embedded stack of a directory to other terminals: who runs it and where its servers listen.

There is one stack a directory: its lock is held from before anything is started until everything has ended, and
`stack.json` exists once all parts run. Files of a killed stack are ignored, because nobody holds its lock.
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

# Beyond the file's text, because on Windows others cannot read a locked byte.
_LOCKED_BYTE = 1 << 30


class FileLocked(Exception):
    """Another process holds the lock."""


class FileLock:
    """The lock of one file. The file is never deleted: two processes could then hold the same lock."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def take(self, text: str) -> None:
        """Take the lock and write `text` into the file, which tells others who holds it.

        Raises:
            FileLocked: another process holds it.
            OSError: the file cannot be created or opened.
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
        """Release the lock if this object holds it."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None

    def is_held(self) -> bool:
        """Return whether any process holds the lock."""
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
    """Lock without waiting; closing the descriptor unlocks. Raises OSError if another process holds it."""
    if sys.platform == "win32":
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        os.lseek(descriptor, 0, os.SEEK_SET)
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


_STACK = "stack.json"
_LOCK = "stack.lock"
# `is_held` takes the lock for a moment, so claiming it is tried a few times.
_TRIES, _PAUSE_SECONDS = 10, 0.02


class Stack(BaseModel):
    """A running embedded stack. `pid` is the process that started it; `http_url` is Temporal's HTTP API."""

    model_config = ConfigDict(frozen=True, strict=True)

    pid: int
    temporal_address: str
    ui_url: str
    provider_base_url: str | None
    http_url: str | None = None


class StackClaimed(Exception):
    """Another process runs, or is starting, the stack of this directory."""


def read_stack_file(data_dir: Path) -> Stack | None:
    """Return the running stack of this directory. None without one, also if only a file is left."""
    try:
        stack = Stack.model_validate_json((data_dir / _STACK).read_bytes())
    except (OSError, ValidationError):
        return None
    return stack if FileLock(data_dir / _LOCK).is_held() else None


@contextmanager
def claim_stack(data_dir: Path) -> Iterator[None]:
    """Hold the directory for this process while the block runs.

    Raises:
        StackClaimed: a running process holds it.
        OSError: the directory cannot be written.
    """
    lock = FileLock(data_dir / _LOCK)
    _take(lock, data_dir)
    try:
        (data_dir / _STACK).unlink(missing_ok=True)
        yield
    finally:
        (data_dir / _STACK).unlink(missing_ok=True)
        lock.release()


def publish_stack(data_dir: Path, stack: Stack) -> None:
    """Publish the stack atomically: readers see a complete file or none."""
    draft = data_dir / f"{_STACK}.{stack.pid}"
    draft.touch(mode=0o600)
    draft.write_text(stack.model_dump_json(indent=2))
    draft.replace(data_dir / _STACK)


def _take(lock: FileLock, data_dir: Path) -> None:
    for _ in range(_TRIES):
        try:
            lock.take(str(os.getpid()))
        except FileLocked:
            time.sleep(_PAUSE_SECONDS)
        else:
            return
    owner = (data_dir / _LOCK).read_text(errors="replace")[:20].strip()
    raise StackClaimed(
        f"{f'Process {owner}' if owner else 'Another process'} runs the stack of {data_dir} already."
    )
