"""Read JSON strictly from files and stdin, and write files atomically."""

import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from cli.errors import CommandFailed, RequestRefused
from gpt_image_runs.contracts.visible_text import escape_controls


def name_source(file: str) -> str:
    """Return the name of a source for messages."""
    return "stdin" if file == "-" else file


def read_source(file: str) -> bytes:
    """Read all bytes of a file, or of stdin for "-".

    Raises:
        RequestRefused: it cannot be read.
    """
    if file == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(file).read_bytes()
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise RequestRefused(f"{file} cannot be read ({why}); nothing was started.") from None


def read_document(data: bytes, source: str, *, wanted: str = "request") -> dict[str, Any]:
    """Parse `data` as exactly one JSON object. A name that is given twice is refused, because its value is ambiguous.

    Raises:
        RequestRefused: not UTF-8, not JSON, several documents, not an object, a name given twice, or NaN.
    """
    try:
        document = json.loads(
            data.decode("utf-8-sig"), object_pairs_hook=_refuse_duplicates, parse_constant=_refuse_constant
        )
    except UnicodeDecodeError as error:
        raise _refuse(source, wanted, f"is not UTF-8 (byte {error.start})") from None
    except json.JSONDecodeError as error:
        raise _refuse(source, wanted, _explain(error)) from None
    except (ValueError, RecursionError) as error:
        why = (
            "is nested too deeply"
            if isinstance(error, RecursionError)
            else f"is not a valid {wanted}: {error}"
        )
        raise _refuse(source, wanted, why) from None
    if not isinstance(document, dict):
        raise _refuse(source, wanted, "contains JSON, but not an object")
    return document


def _explain(error: json.JSONDecodeError) -> str:
    place = f"line {error.lineno}, column {error.colno}"
    if not error.doc.strip():
        return "is empty"
    if error.msg == "Extra data":
        return f"contains several JSON documents (the second begins at {place})"
    return f"is not JSON ({error.msg} at {place})"


def _refuse(source: str, wanted: str, why: str) -> RequestRefused:
    return RequestRefused(f"{source} {why}. Provide one {wanted} as one JSON object; nothing was started.")


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        ((twice, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"the name {twice!a} is given more than once")
    return document


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


@contextmanager
def replace_whole(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that replaces `path` when the block ends without an error.

    Raises:
        OSError: it cannot be written; the old file at `path` is unchanged.
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
    """Create the parent folder of a file.

    Raises:
        OSError: the folder cannot be created, or `path` is a folder.
    """
    if path.is_dir():
        raise IsADirectoryError(0, "it is a folder")
    path.parent.mkdir(parents=True, exist_ok=True)


@contextmanager
def tell_unwritable(what: str) -> Iterator[None]:
    """Turn an OSError of the block into a CommandFailed that says what cannot be written and why."""
    try:
        yield
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise CommandFailed(f"{what} cannot be written ({why}). Choose another place.") from error


_FORMULAS = ("=", "+", "-", "@", "\t", "\r")


def defuse(text: str | None) -> str | None:
    """Put a text on one line and make it harmless for spreadsheets and terminals."""
    told = escape_controls(" ".join(text.split())) if text else text
    return f"'{told}" if told and told.startswith(_FORMULAS) else told
