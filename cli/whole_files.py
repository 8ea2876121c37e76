"""Files that are there whole or not at all: written aside as a draft, and given their name when they are done."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from cli.failures import CommandFailed


@contextmanager
def replace_whole(path: Path) -> Iterator[BinaryIO]:
    """A file to write to; on leaving it takes the place of what was at `path`, unless something was raised.

    Raises:
        OSError: it cannot be written; what was at `path` is still there.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with draft.open("wb") as file:
            yield file
        draft.replace(path)
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def make_room(path: Path) -> None:
    """Makes the folder of a file that is going to be written.

    Raises:
        OSError: the folder cannot be made, or a folder has the file's name.
    """
    if path.is_dir():
        raise IsADirectoryError(0, "it is a folder")
    path.parent.mkdir(parents=True, exist_ok=True)


@contextmanager
def tell_unwritable(what: str) -> Iterator[None]:
    """Turns an OSError of the block into a CommandFailed that says what cannot be written, and why."""
    try:
        yield
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise CommandFailed(f"{what} cannot be written ({why}). Choose another place.") from error
