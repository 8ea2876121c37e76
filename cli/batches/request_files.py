"""Reads files of requests: JSON Lines or tables, in any Unicode encoding."""

import codecs
import csv
import json
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path, PurePath
from typing import Any, BinaryIO, NamedTuple

from cli.errors import RequestRefused
from cli.files import name_source, read_document
from gpt_image_runs.contracts.request_parsing import ALLOWED

# Bytes: a request may bring images of a megabyte together, and its other fields are short.
MAX_LINE = 2 * 1024 * 1024
_HEAD_LINES = 8
_TABLES = (".csv", ".tsv")
_METADATA = "metadata."
_COLUMNS = tuple(name for name in ALLOWED if name not in {"metadata", "stream"})
_NUMBERS = ("n", "output_compression", "partial_images")
_NUMBER = re.compile(r"\d{1,9}", re.ASCII)
_CHUNK = 64 * 1024
_DELIMITERS = ",;\t|"
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\s*')
_BYTE_ORDER_MARKS = (
    # UTF-32 first: its mark begins with that of UTF-16.
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)
_NOT_TEXT = (
    (b"PK\x03\x04", "an Excel workbook or another ZIP file: save the sheet as CSV UTF-8"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook (.xls): save the sheet as CSV UTF-8"),
    (b"\x1f\x8b", "compressed by gzip: unpack it first"),
    (b"%PDF", "a PDF document: write the requests as JSON Lines or CSV"),
    (b"\x89PNG", "a picture: write the requests as JSON Lines or CSV"),
    (b"\xff\xd8\xff", "a picture: write the requests as JSON Lines or CSV"),
    (b"SQLite format 3", "a SQLite database: write the requests as JSON Lines or CSV"),
)


class FileLine(NamedTuple):
    """A line of a file: a payload, or the problem with it. `source` is its text."""

    number: int
    payload: dict[str, Any] | None
    problem: str | None
    source: bytes


def read_lines(file: str) -> Iterator[FileLine]:
    """Yield the lines of a file, or of stdin for "-": JSON Lines or a table. Blank lines are skipped.

    Unambiguous variants are accepted: any Unicode encoding, any line ends, commas after JSON objects, tables with
    semicolons or tabs. A table is recognized by the ending .csv or .tsv, or by a first line with a column "prompt".

    Raises:
        RequestRefused: the file cannot be read, is of another kind, or its table has no valid header.
    """
    source = name_source(file)
    with _open(file) as stream:
        head = stream.read(_CHUNK)
        _check_is_text(head, source)
        lines = _split(_read_utf8(head, stream, source))
        first = list(islice(lines, _HEAD_LINES))
        lines = chain(first, lines)
        if _is_table(first, PurePath(file).suffix.lower()):
            yield from _read_table(lines, source)
        else:
            _check_is_json_lines(first, source)
            yield from _read_json_lines(lines)


def _check_is_text(head: bytes, source: str) -> None:
    for start, kind in _NOT_TEXT:
        if head.startswith(start):
            raise RequestRefused(f"{source} is {kind}. Nothing was started.")


def _is_table(first: list[bytes | None], suffix: str) -> bool:
    start = next((line for line in first if line is None or line.strip()), None)
    if start is None:
        return suffix in _TABLES
    if start.lstrip()[:1] in (b"{", b"["):
        return False
    return suffix in _TABLES or "prompt" in _split_header(start.decode(errors="replace"))[1]


def _check_is_json_lines(first: list[bytes | None], source: str) -> None:
    """Check that JSON is one request per line, to refuse others once for the file.

    Raises:
        RequestRefused: it is an array, in the provider's batch format, or an object over several lines.
    """
    texts = [line for line in first if line is None or line.strip()]
    if not texts or texts[0] is None:
        return
    start = texts[0].strip().removesuffix(b",")
    if start.startswith(b"["):
        raise RequestRefused(
            f"{source} is one JSON array: write one request a line, without brackets around them"
            f" (jq -c '.[]' FILE > requests.jsonl). Nothing was started."
        )
    document = _parse(start)
    if isinstance(document, dict):
        if isinstance(document.get("body"), dict) and document.keys() & {"custom_id", "method", "url"}:
            raise RequestRefused(
                f"{source} is in the provider's own batch format: write what is in `body` as the line, with custom_id as"
                f" its request_id (jq -c '.body + {{request_id: .custom_id}}' FILE > requests.jsonl)."
                " Nothing was started."
            )
    elif start.startswith(b"{") and len(texts) > 1 and not start.endswith(b"}"):
        following = texts[1]
        if following is not None and not isinstance(_parse(following.strip().removesuffix(b",")), dict):
            raise RequestRefused(
                f"{source} spreads a JSON object over several lines: write each request on one line"
                f" (jq -c . FILE > requests.jsonl), or use `submit` for a single request. Nothing was started."
            )


def _parse(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


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


def _read_json_lines(lines: Iterable[bytes | None]) -> Iterator[FileLine]:
    for number, line in enumerate(lines, start=1):
        if line is None:
            yield FileLine(number, None, f"longer than {MAX_LINE:,} bytes", b"too long")
        elif line.strip():
            yield _read_json(number, line)


def _read_json(number: int, line: bytes) -> FileLine:
    text = line.strip()
    text = text[:-1] if text.endswith(b"},") else text
    try:
        return FileLine(number, read_document(text, f"line {number}"), None, line)
    except RequestRefused as refused:
        why = str(refused).removeprefix(f"line {number} ").partition(". Give one request")[0]
        return FileLine(number, None, why, line)


def _read_utf8(head: bytes, stream: BinaryIO, source: str) -> Iterator[bytes]:
    """Yield the file in chunks of UTF-8. Only UTF-16 and UTF-32 are converted."""
    chunks = chain((head,), iter(lambda: stream.read(_CHUNK), b""))
    encoding = _find_encoding(head)
    if encoding == "utf-8-sig":
        yield head.removeprefix(codecs.BOM_UTF8)
        yield from islice(chunks, 1, None)
    elif encoding is None:
        yield from chunks
    else:
        decoder = codecs.getincrementaldecoder(encoding)()
        try:
            for chunk in chunks:
                yield decoder.decode(chunk).encode()
            yield decoder.decode(b"", final=True).encode()
        except UnicodeError:
            raise RequestRefused(
                f"{source} is not valid {encoding.upper()}: save it as UTF-8. Nothing was started."
            ) from None


def _find_encoding(head: bytes) -> str | None:
    """Detect the encoding by its byte order mark, UTF-16 also by a zero byte in an ASCII character."""
    marked = next((encoding for mark, encoding in _BYTE_ORDER_MARKS if head.startswith(mark)), None)
    if marked or len(head) < len("xx"):
        return marked
    first, second = bool(head[0]), bool(head[1])
    return {(True, False): "utf-16-le", (False, True): "utf-16-be"}.get((first, second))


def _split(chunks: Iterator[bytes]) -> Iterator[bytes | None]:
    """Yield each line without its end, None for one that is too long.

    Lines end with LF or CRLF, or with CR alone in a file whose first chunks have no LF.
    """
    end, rest, is_too_long = b"\n", b"", False
    for number, chunk in enumerate(chunks):
        if not number and b"\n" not in chunk and b"\r" in chunk[:-1]:
            end = b"\r"
        *lines, rest = (rest + chunk).split(end)
        for line in lines:
            yield None if is_too_long or len(line) > MAX_LINE else line.rstrip(b"\r\n")
            is_too_long = False
        if len(rest) > MAX_LINE:
            rest, is_too_long = b"", True
    if rest or is_too_long:
        yield None if is_too_long else rest.rstrip(b"\r\n")


def _read_table(lines: Iterator[bytes | None], source: str) -> Iterator[FileLine]:
    texts = _decode(lines, source)
    before, first, delimiters = 0, "", _DELIMITERS
    for text in texts:
        separator = _SEPARATOR_LINE.fullmatch(text)
        if text.strip(_DELIMITERS + " \r\n") and not separator:
            first = text
            break
        delimiters = separator[1] if separator else delimiters
        before += 1
    delimiter, _ = _split_header(first, delimiters)
    reader = csv.reader(chain((first,), texts), strict=True, skipinitialspace=True, delimiter=delimiter)
    number = before + 1
    try:
        header = [_name_column(cell) for cell in next(reader, [])]
        _check_header(header, source)
        while True:
            number = before + reader.line_num + 1
            row = next(reader, None)
            if row is None:
                return
            if any(cell.strip() for cell in row):
                yield _read_row(number, header, row)
    except csv.Error as error:
        raise RequestRefused(
            f"{source} is not valid CSV (line {number}: {error}). Nothing was started."
        ) from None


def _split_header(line: str, delimiters: str = _DELIMITERS) -> tuple[str, list[str]]:
    """Return the delimiter that gives the most known columns, "prompt" first, and the columns."""
    best = (delimiters[0], [""])
    for delimiter in delimiters:
        try:
            cells = next(csv.reader([line], skipinitialspace=True, delimiter=delimiter), [])
        except csv.Error:
            continue
        columns = [_name_column(cell) for cell in cells]
        if _count_known(columns) > _count_known(best[1]):
            best = (delimiter, columns)
    return best


def _count_known(columns: list[str]) -> tuple[bool, int]:
    return "prompt" in columns, sum(name in _COLUMNS for name in columns)


def _name_column(cell: str) -> str:
    name = cell.strip()
    return name.lower() if name.lower() in _COLUMNS else name


def _decode(lines: Iterator[bytes | None], source: str) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        if line is None:
            raise RequestRefused(
                f"{source}: line {number} is longer than {MAX_LINE:,} bytes. Nothing was started."
            )
        if b"\0" in line:
            raise RequestRefused(
                f"{source}: line {number} has a NUL byte, so this is not a text file, or it is damaged. Nothing was started."
            )
        try:
            yield line.decode() + "\n"
        except UnicodeDecodeError as error:
            raise RequestRefused(
                f"{source}: line {number} is not UTF-8 (byte {error.start}); save the table as CSV UTF-8."
                " Nothing was started."
            ) from None


def _check_header(header: list[str], source: str) -> None:
    named = [name for name in header if name]
    for name in named:
        is_known = name in _COLUMNS or (name.startswith(_METADATA) and name != _METADATA)
        if not is_known or named.count(name) > 1:
            raise RequestRefused(
                f"{source} has the column {name!a}, unknown or twice; the columns are {', '.join(_COLUMNS)} and"
                " metadata.NAME, and the first line names them. Nothing was started."
            )
    if "prompt" not in named:
        raise RequestRefused(
            f"{source} has no column prompt: the first line names the columns. Commas, semicolons or tabs"
            " separate them. Nothing was started."
        )


def _read_row(number: int, header: list[str], row: list[str]) -> FileLine:
    source = json.dumps(row).encode()
    # Spreadsheets write empty columns at the end, in the header or in single rows.
    if any(cell.strip() for cell in row[len(header) :]):
        return FileLine(number, None, "more cells than the header has columns", source)
    payload: dict[str, Any] = {}
    metadata: dict[str, str] = {}
    for column, (name, cell) in enumerate(zip(header, row, strict=False), start=1):
        if not cell.strip():
            continue
        if not name:
            return FileLine(number, None, f"column {column} has no name in the first line", source)
        if name.startswith(_METADATA):
            metadata[name.removeprefix(_METADATA)] = cell
        else:
            payload[name] = _read_cell(name, cell)
    return FileLine(number, payload | ({"metadata": metadata} if metadata else {}), None, source)


def _read_cell(name: str, cell: str) -> Any:
    """Convert a cell to a number, a list of image references, or a text."""
    if name in _NUMBERS and _NUMBER.fullmatch(cell.strip()):
        return int(cell)
    if name == "images":
        return cell.split()
    return cell if name == "prompt" else cell.strip()
