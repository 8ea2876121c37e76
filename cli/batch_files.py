"""The lines of a batch's file, one after another: JSON Lines, or a table. Whether a request may run is checked elsewhere.

A file may be larger than memory should be: no more than a line of it is held.
"""

import csv
import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any, BinaryIO, NamedTuple

from cli.documents import name_source, read_document
from cli.failures import RequestRefused
from contracts.reading import ALLOWED

LONGEST_LINE = 2 * 1024 * 1024
"""Bytes: a request may bring pictures of a megabyte, and what it says beside them is short."""
_METADATA = "metadata."
_COLUMNS = tuple(name for name in ALLOWED if name not in {"metadata", "stream"})
_NUMBERS = ("n", "output_compression", "partial_images")
_NUMBER = re.compile(r"\d{1,9}", re.ASCII)
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class FileLine(NamedTuple):
    """A line as it was read: a payload, or what is wrong with it. `source` is what stands there."""

    number: int
    payload: dict[str, Any] | None
    problem: str | None
    source: bytes


def read_lines(file: str) -> Iterator[FileLine]:
    """The lines of a file, or of stdin for "-": a table where its name ends in .csv, else JSON Lines. Blank ones are none.

    Raises:
        RequestRefused: the file cannot be read, or its table has no sound header.
    """
    with _open(file) as stream:
        if PurePath(file).suffix.lower() == ".csv":
            yield from _read_table(stream, name_source(file))
        else:
            yield from _read_json_lines(stream)


@contextmanager
def _open(file: str) -> Iterator[BinaryIO]:
    if file == "-":
        yield sys.stdin.buffer
        return
    try:
        with Path(file).open("rb") as stream:
            yield stream
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise RequestRefused(f"{file} cannot be read ({why}); nothing was started.") from None


def _read_json_lines(stream: BinaryIO) -> Iterator[FileLine]:
    for number, line in enumerate(_split(stream), start=1):
        if line is None:
            yield FileLine(number, None, f"longer than {LONGEST_LINE:,} bytes", b"too long")
        elif line.strip():
            yield _read_json(number, line)


def _read_json(number: int, line: bytes) -> FileLine:
    try:
        return FileLine(number, read_document(line, f"line {number}"), None, line)
    except RequestRefused as refused:
        why = str(refused).removeprefix(f"line {number} ").partition(". Give one request")[0]
        return FileLine(number, None, why, line)


def _split(stream: BinaryIO) -> Iterator[bytes | None]:
    """Each line without its end, None for one that is too long; the rest of that is read past."""
    is_first = True
    while line := stream.readline(LONGEST_LINE + 1):
        if is_first:
            line, is_first = line.removeprefix(_BYTE_ORDER_MARK), False
        if len(line) <= LONGEST_LINE:
            yield line.rstrip(b"\r\n")
            continue
        while line and not line.endswith(b"\n"):
            line = stream.readline(LONGEST_LINE)
        yield None


def _read_table(stream: BinaryIO, source: str) -> Iterator[FileLine]:
    reader = csv.reader(_decode(stream, source), strict=True, skipinitialspace=True)
    number = 1
    try:
        header = next(reader, [])
        _check_header(header, source)
        while True:
            number = reader.line_num + 1
            row = next(reader, None)
            if row is None:
                return
            if any(cell.strip() for cell in row):
                yield _read_row(number, header, row)
    except csv.Error as error:
        raise RequestRefused(f"{source} is no CSV (line {number}: {error}). Nothing was started.") from None


def _decode(stream: BinaryIO, source: str) -> Iterator[str]:
    for number, line in enumerate(_split(stream), start=1):
        if line is None:
            raise RequestRefused(
                f"{source}: line {number} is longer than {LONGEST_LINE:,} bytes. Nothing was started."
            )
        try:
            yield line.decode() + "\n"
        except UnicodeDecodeError as error:
            raise RequestRefused(
                f"{source}: line {number} is not UTF-8 (byte {error.start}). Nothing was started."
            ) from None


def _check_header(header: list[str], source: str) -> None:
    for name in header:
        is_known = name in _COLUMNS or (name.startswith(_METADATA) and name != _METADATA)
        if not is_known or header.count(name) > 1:
            raise RequestRefused(
                f"{source} has the column {name!a}, unknown or twice; the columns are {', '.join(_COLUMNS)} and"
                " metadata.NAME, and the first line names them. Nothing was started."
            )
    if "prompt" not in header:
        raise RequestRefused(
            f"{source} has no column prompt: the first line names the columns. Nothing was started."
        )


def _read_row(number: int, header: list[str], row: list[str]) -> FileLine:
    source = json.dumps(row).encode()
    if len(row) > len(header):
        return FileLine(number, None, "more cells than the header has columns", source)
    payload: dict[str, Any] = {}
    metadata: dict[str, str] = {}
    for name, cell in zip(header, row, strict=False):
        if not cell.strip():
            continue
        if name.startswith(_METADATA):
            metadata[name.removeprefix(_METADATA)] = cell
        else:
            payload[name] = _read_cell(name, cell)
    return FileLine(number, payload | ({"metadata": metadata} if metadata else {}), None, source)


def _read_cell(name: str, cell: str) -> Any:
    """Cells are texts, apart from numbers, and from pictures: references with blanks between them."""
    if name in _NUMBERS and _NUMBER.fullmatch(cell.strip()):
        return int(cell)
    if name == "images":
        return cell.split()
    return cell if name == "prompt" else cell.strip()
