"""JSON from files and from standard input, read strictly. What it means is not known here."""

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
    """A file as messages name it."""
    return "stdin" if file == "-" else file


def read_source(file: str) -> bytes:
    """All bytes of a file, or of stdin for "-".

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
    """The one JSON object that `data` holds, read strictly: a program that sends two values for one name means neither.

    Raises:
        RequestRefused: no UTF-8, no JSON, several documents, no object, a name given twice, or NaN.
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
        why = "is nested too deeply" if isinstance(error, RecursionError) else f"is no {wanted}: {error}"
        raise _refuse(source, wanted, why) from None
    if not isinstance(document, dict):
        raise _refuse(source, wanted, "holds JSON, but no object")
    return document


def _explain(error: json.JSONDecodeError) -> str:
    place = f"line {error.lineno}, column {error.colno}"
    if not error.doc.strip():
        return "is empty"
    if error.msg == "Extra data":
        return f"holds several JSON documents (the second begins at {place})"
    return f"is no JSON ({error.msg} at {place})"


def _refuse(source: str, wanted: str, why: str) -> RequestRefused:
    return RequestRefused(f"{source} {why}. Give one {wanted} as one JSON object; nothing was started.")


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


_FORMULAS = ("=", "+", "-", "@", "\t", "\r")


def defuse(text: str | None) -> str | None:
    """A text on one line, and none that a spreadsheet or a terminal would carry out."""
    told = escape_controls(" ".join(text.split())) if text else text
    return f"'{told}" if told and told.startswith(_FORMULAS) else told
