"""Restrict DATA_DIR to its owner, because it holds prompts, pictures, the ledger and logs."""

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_OURS = frozenset(
    {"images", "logs", "demo", "stack.json", "stack.lock", "stack.pid", "simulator-books.jsonl"}
)
_DATABASES = ("ledger.db", "temporal.db")
_GROUP_AND_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def protect_data_dir(data_dir: Path, *, create: bool) -> bool:
    """Remove access of group and others from DATA_DIR and our files in it. Return whether any had access.

    A folder that also holds other files, such as a home, keeps its mode, and so do those files. Files of other users are
    left alone, and so are stores and ledgers elsewhere that settings name.

    Raises:
        OSError: the folder cannot be created or read.
    """
    if create and not data_dir.is_dir():
        data_dir.parent.mkdir(parents=True, exist_ok=True)
        data_dir.mkdir(mode=0o700, exist_ok=True)
    if os.name != "posix" or not data_dir.is_dir():
        return False
    entries = list(data_dir.iterdir())
    ours = [path for path in entries if path.name in _OURS or path.name.startswith(_DATABASES)]
    found = _remove_access(data_dir) if len(ours) == len(entries) else False
    for path in ours:
        # A closed folder protects its contents, so it is walked only once, when it is closed.
        below = list(_list_below(path)) if _is_open(path) else []
        for part in (path, *below):
            found = _remove_access(part) or found
    return found


def _list_below(path: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(path):
        yield from (Path(folder) / name for name in (*folders, *files))


def _is_open(path: Path) -> bool:
    with suppress(OSError):
        status = path.lstat()
        return not stat.S_ISLNK(status.st_mode) and bool(status.st_mode & _GROUP_AND_OTHERS)
    return False


def _remove_access(path: Path) -> bool:
    if not _is_open(path):
        return False
    with suppress(OSError):  # another user's, or removed since
        path.chmod(stat.S_IMODE(path.lstat().st_mode) & ~_GROUP_AND_OTHERS)
        return True
    return False
