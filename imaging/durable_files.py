"""Writing a file so that it is there whole or not at all, and stays there once the write has returned.

The bytes go into a file of another name first, are forced to the disk, and then take the place of the target in one
step; the folders' own entries are forced as well. What a crash leaves behind lies in the folder for partial files.
"""

import contextlib
import os
import uuid
from pathlib import Path
from typing import BinaryIO

_ABANDONED_SECONDS = 24 * 60 * 60
"""No write takes a day: what is older was left by a crash."""


def write_durably(path: Path, data: bytes, *, partials: Path) -> None:
    """Writes `data` to `path`; `partials` is a folder that exists, on the same disk, for files that are being written.

    Raises:
        OSError: it was not written; what was at `path` before is there still.
    """
    partial = partials / uuid.uuid4().hex
    try:
        with open_new(partial) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        make_folder(path.parent)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    _sync_folder(path.parent)


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it, each forced to the disk: a file is no safer than the folders above it.

    Where the folder above is closed to other users, so is a new one.
    """
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(mode=0o777 & _rights_in(folder.parent), exist_ok=True)
    _sync_folder(folder.parent)


def open_new(path: Path) -> BinaryIO:
    """Open a file that is not there yet for writing, closed to other users where its folder is."""
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666 & _rights_in(path.parent))
    return os.fdopen(descriptor, "wb")


def _rights_in(folder: Path) -> int:
    return 0o700 if os.name == "posix" and not folder.stat().st_mode & 0o077 else 0o777


def remove_abandoned(partials: Path) -> None:
    """Removes the files that a crash has left half-written."""
    found = list(partials.iterdir())
    if not found:
        return
    # The file system's own time: a folder that several hosts share has another clock than this one.
    probe = partials / uuid.uuid4().hex
    probe.touch()
    now = probe.stat().st_mtime
    for partial in (*found, probe):
        with contextlib.suppress(
            FileNotFoundError
        ):  # another process has finished it, or removed it, meanwhile
            if partial == probe or now - partial.stat().st_mtime > _ABANDONED_SECONDS:
                partial.unlink()


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":  # elsewhere a folder cannot be opened, and needs no forcing
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
