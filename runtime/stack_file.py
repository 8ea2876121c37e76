"""What the embedded stack of a directory tells other terminals: who runs it and where its servers listen.

One stack a directory: a lock file is taken before anything is started, and `stack.json` appears when all is up.
"""

import json
import os
import sys
from pathlib import Path
from typing import NamedTuple

_STACK = "stack.json"
_LOCK = "stack.lock"


class Stack(NamedTuple):
    """A running embedded stack. `pid` is the process that started it and ends it."""

    pid: int
    temporal_address: str
    ui_url: str
    provider_base_url: str | None


class StackClaimed(Exception):
    """Another process runs, or is about to run, the stack of this directory."""


def read_stack_file(data_dir: Path) -> Stack | None:
    """The stack that runs for this directory, or None: also where its process is gone and only the file is left."""
    try:
        stack = Stack(**json.loads((data_dir / _STACK).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return stack if _is_running(stack.pid) else None


def claim_stack(data_dir: Path) -> None:
    """Takes the directory's lock for this process; a lock whose owner is gone is taken over.

    Raises:
        StackClaimed: a living process holds it.
    """
    lock = data_dir / _LOCK
    while True:
        try:
            descriptor = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            owner = _read_pid(lock)
            if owner is not None and owner != os.getpid() and _is_running(owner):
                raise StackClaimed(f"Process {owner} runs the stack of {data_dir} already.") from None
            lock.unlink(missing_ok=True)
            continue
        with os.fdopen(descriptor, "w") as file:
            file.write(str(os.getpid()))
        return


def publish_stack(data_dir: Path, stack: Stack) -> None:
    """Publishes the stack, atomically: a reader sees a whole file or none."""
    draft = data_dir / f"{_STACK}.{stack.pid}"
    draft.write_text(json.dumps(stack._asdict(), indent=2))
    draft.replace(data_dir / _STACK)


def release_stack(data_dir: Path) -> None:
    """Takes the stack back and frees the directory."""
    (data_dir / _STACK).unlink(missing_ok=True)
    (data_dir / _LOCK).unlink(missing_ok=True)


def _read_pid(lock: Path) -> int | None:
    try:
        return int(lock.read_text() or -1)
    except (OSError, ValueError):
        return None


def _is_running(pid: int) -> bool:
    """Whether a process with this id exists. On Windows, where asking would end it, the file is taken at its word."""
    if sys.platform == "win32":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
