"""The embedded stack of a data directory: which process runs it, and where its servers listen.

A directory has one stack. Its lock is held from before anything is started until all has ended, and `stack.json` is written
when every server answers. The operating system releases the lock of a process that was killed; the files it leaves behind
are ignored.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError

_STACK, _LOCK = "stack.json", "stack.lock"
# Beside the lock: on Windows a locked file cannot be read.
_PID = "stack.pid"
# A reader holds the lock for a moment while it checks, so a claim waits this long.
_CLAIM_SECONDS, _POLL_SECONDS = 0.2, 0.02


class Stack(BaseModel):
    """A running embedded stack. `pid` is the process that started it and will end it; `http_url` is Temporal's HTTP API."""

    model_config = ConfigDict(frozen=True, strict=True)

    pid: int
    temporal_address: str
    ui_url: str
    provider_base_url: str | None
    http_url: str | None = None


class StackClaimed(Exception):
    """Another process runs, or is about to run, the stack of this directory."""


def read_stack_file(data_dir: Path) -> Stack | None:
    """Return the stack that runs for this directory, or None where its process has ended or nothing was published."""
    try:
        stack = Stack.model_validate_json((data_dir / _STACK).read_bytes())
    except (OSError, ValidationError):
        return None
    return stack if _is_held(data_dir / _LOCK) else None


@contextmanager
def claim_stack(data_dir: Path) -> Iterator[None]:
    """Hold the directory for this process while the block runs.

    Raises:
        StackClaimed: a running process holds it.
        OSError: the directory cannot be written.
    """
    lock = _make_lock(data_dir / _LOCK)
    try:
        lock.acquire(timeout=_CLAIM_SECONDS, poll_interval=_POLL_SECONDS)
    except Timeout:
        raise StackClaimed(f"{_name_owner(data_dir)} runs the stack of {data_dir} already.") from None
    try:
        (data_dir / _STACK).unlink(missing_ok=True)
        _write(data_dir / _PID, str(os.getpid()))
        yield
    finally:
        (data_dir / _STACK).unlink(missing_ok=True)
        (data_dir / _PID).unlink(missing_ok=True)
        lock.release()


def publish_stack(data_dir: Path, stack: Stack) -> None:
    """Publish the stack atomically: a reader sees a whole file or none."""
    draft = data_dir / f"{_STACK}.{stack.pid}"
    _write(draft, stack.model_dump_json(indent=2))
    draft.replace(data_dir / _STACK)


def _make_lock(path: Path) -> FileLock:
    # Without flock there is no lock that ends with its process: an error is better than a file that stays.
    return FileLock(path, mode=0o600, thread_local=False, fallback_to_soft=False)


def _is_held(path: Path) -> bool:
    if not path.exists():
        return False
    try:
        with _make_lock(path).acquire(timeout=0):
            return False
    except Timeout:
        return True
    except OSError:
        return False


def _name_owner(data_dir: Path) -> str:
    try:
        owner = (data_dir / _PID).read_text(errors="replace")[:20].strip()
    except OSError:
        owner = ""
    return f"Process {owner}" if owner else "Another process"


def _write(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)
