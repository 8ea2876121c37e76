"""What comes into a batch: every line of its file checked as `submit` would, before the first is started."""

import codecs
import csv
import hashlib
import json
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path, PurePath
from typing import Any, BinaryIO, NamedTuple

from cli.errors import RequestRefused
from cli.files import name_source, read_document
from cli.runs.start import check_pictures
from cli.session import Session
from gpt_image_runs.billing.pricing.quotes import price_ceiling
from gpt_image_runs.billing.pricing.rate_cards import RateCards
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.batches import (
    LINES_A_PAGE,
    MAX_LINES,
    MAX_PAGE,
    BatchLine,
    page_key,
    write_line,
)
from gpt_image_runs.contracts.billing import PriceMode
from gpt_image_runs.contracts.problems import Problem, describe_value
from gpt_image_runs.contracts.request import ImageRequest
from gpt_image_runs.contracts.request_parsing import ALLOWED
from gpt_image_runs.images.store import ImageStore
from gpt_image_runs.provider.catalog import Catalog
from gpt_image_runs.provider.request_rules import check_payload

MAX_LINE = 2 * 1024 * 1024
"""Bytes: a request may bring pictures of a megabyte, and what it says beside them is short."""
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
    """A line as it was read: a payload, or what is wrong with it. `source` is what stands there."""

    number: int
    payload: dict[str, Any] | None
    problem: str | None
    source: bytes


def read_lines(file: str) -> Iterator[FileLine]:
    """Read the lines of a file, or of stdin for "-": JSON Lines or a table. Blank lines are skipped.

    What is unambiguous is read: any Unicode encoding, any line ends, commas behind JSON objects, tables with
    semicolons or tabs. A table is recognized by the ending .csv or .tsv, or by a first line with a column "prompt".

    Raises:
        RequestRefused: the file cannot be read, is of another kind, or its table has no sound header.
    """
    source = name_source(file)
    with _open(file) as stream:
        head = stream.read(_CHUNK)
        _refuse_what_is_not_text(head, source)
        lines = _split(_read_utf8(head, stream, source))
        first = list(islice(lines, _HEAD_LINES))
        lines = chain(first, lines)
        if _is_table(first, PurePath(file).suffix.lower()):
            yield from _read_table(lines, source)
        else:
            _refuse_other_json(first, source)
            yield from _read_json_lines(lines)


def _refuse_what_is_not_text(head: bytes, source: str) -> None:
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


def _refuse_other_json(first: list[bytes | None], source: str) -> None:
    """Refuse JSON that is not one request a line in one sentence, instead of one for each of its lines.

    Raises:
        RequestRefused: it is an array, the provider's batch format, or an object over several lines.
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
    """The file in chunks of UTF-8. Bytes of a file that is not UTF-16 or UTF-32 are passed on as they are."""
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
                f"{source} is not sound {encoding.upper()}: save it as UTF-8. Nothing was started."
            ) from None


def _find_encoding(head: bytes) -> str | None:
    """The encoding by its byte order mark; UTF-16 without one by the zero beside the first, ASCII, character."""
    marked = next((encoding for mark, encoding in _BYTE_ORDER_MARKS if head.startswith(mark)), None)
    if marked or len(head) < len("xx"):
        return marked
    first, second = bool(head[0]), bool(head[1])
    return {(True, False): "utf-16-le", (False, True): "utf-16-be"}.get((first, second))


def _split(chunks: Iterator[bytes]) -> Iterator[bytes | None]:
    """Each line without its end, None for one that is too long; the rest of that is dropped.

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
        raise RequestRefused(f"{source} is no CSV (line {number}: {error}). Nothing was started.") from None


def _split_header(line: str, delimiters: str = _DELIMITERS) -> tuple[str, list[str]]:
    """The delimiter under which the first line has a column "prompt" and the most known ones, and its columns."""
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
    """Cells are texts, apart from numbers, and from pictures: references with blanks between them."""
    if name in _NUMBERS and _NUMBER.fullmatch(cell.strip()):
        return int(cell)
    if name == "images":
        return cell.split()
    return cell if name == "prompt" else cell.strip()


class PageSpool:
    """Writes lines into pages, and pages into a store. `pages` and `lines` are how many there are so far."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._page = b""
        self._lines_on_page = 0
        self.pages = 0
        self.lines = 0

    def add(self, line: BatchLine) -> None:
        """Appends a line."""
        self._page += write_line(line)
        self._lines_on_page += 1
        self.lines += 1
        if self._lines_on_page == LINES_A_PAGE or len(self._page) >= MAX_PAGE:
            self.close_page()

    def close_page(self) -> None:
        """Ends a page that has been begun."""
        if self._page:
            self._path(self.pages).write_bytes(self._page)
            self.pages += 1
            self._page, self._lines_on_page = b"", 0

    async def upload(self, store: ImageStore, batch_id: str, digest: str) -> None:
        """Puts all pages into the store. Raises StoreUnavailable."""
        for page in range(self.pages):
            await store.put_document(page_key(batch_id, digest, page), self._path(page).read_bytes())

    def _path(self, page: int) -> Path:
        return self._folder / f"{page:05d}"


_MAX_TOLD = 50
_MAX_PICTURES_REMEMBERED = 1_000


@dataclass(slots=True)
class Intake:
    """What was found in a file. `worst_case_micro_usd` adds up the lines whose price is known, `unpriced` counts the others."""

    spool: PageSpool
    digest: str = ""
    sound: int = 0
    wrong: int = 0
    told: list[str] = field(default_factory=list)
    worst_case_micro_usd: int = 0
    unpriced: int = 0

    def refuse_wrong_lines(self, source: str) -> None:
        """Raises RequestRefused with the lines that are wrong, if there are any."""
        if self.wrong:
            more = [f"and {self.wrong - len(self.told):,} more"] if self.wrong > len(self.told) else []
            raise RequestRefused(
                "\n".join([f"{source} is refused, nothing was started:", *self.told, *more])
                + "\n--skip-invalid runs the other lines.",
                lines=self.told,
                wrong=self.wrong,
                sound=self.sound,
            )


class BatchIntake:
    """Checks the lines of one batch. `defaults` are request fields for lines that do not say otherwise."""

    def __init__(
        self,
        session: Session,
        batch_id: str,
        defaults: dict[str, Any],
        *,
        needs_price: bool,
        mode: PriceMode = "standard",
    ) -> None:
        self._mode: PriceMode = mode
        self._session = session
        self._batch_id = batch_id
        self._defaults = defaults
        self._needs_price = needs_price
        self._catalogue = Catalog.load(session.provider)
        self._cards = RateCards.load(session.settings.rate_card)
        self._now = datetime.now(UTC)
        self._lines_by_run: dict[str, int] = {}
        self._pictures: dict[str, tuple[Problem, ...]] = {}

    async def take_in(self, lines: Iterable[FileLine], source: str, folder: Path) -> Intake:
        """Reads all lines into pages in that folder.

        Raises:
            RequestRefused: there is no line, there are too many, or the file cannot be read.
            StoreUnavailable: the pictures to edit could not be read.
        """
        intake, digest = Intake(PageSpool(folder)), hashlib.sha256()
        for line in lines:
            if intake.spool.lines == MAX_LINES:
                raise RequestRefused(
                    f"{source} has more than {MAX_LINES:,} lines: split it up. Nothing was started."
                )
            payload = None if line.payload is None else self._complete(line.payload)
            digest.update(_canonical(line, payload))
            await self._take_line(line, payload, intake)
        if not intake.spool.lines:
            raise RequestRefused(f"{source} holds no line; nothing was started.")
        intake.spool.close_page()
        intake.digest = digest.hexdigest()
        return intake

    async def _take_line(self, line: FileLine, payload: dict[str, Any] | None, intake: Intake) -> None:
        problem = line.problem
        if payload is not None:
            payload = payload | {
                "request_id": payload.get("request_id") or f"{self._batch_id}-{line.number:06d}"
            }
            problem = await self._check(line.number, payload, intake)
        if problem is None:
            intake.sound += 1
            intake.spool.add(BatchLine(line=line.number, request=payload))
            return
        intake.wrong += 1
        if len(intake.told) < _MAX_TOLD:
            intake.told.append(f"line {line.number}: {problem}")
        intake.spool.add(BatchLine(line=line.number, problem=problem))

    def _complete(self, payload: dict[str, Any]) -> dict[str, Any]:
        given = {name: value for name, value in payload.items() if value is not None}
        whole = self._defaults | given
        both = (self._defaults.get("metadata"), given.get("metadata"))
        if all(isinstance(metadata, dict) for metadata in both):
            whole["metadata"] = both[0] | both[1]  # type: ignore[operator]  # both are, as was just asked
        return whole

    async def _check(self, number: int, payload: dict[str, Any], intake: Intake) -> str | None:
        """What is wrong with a line, as one text; None where it may run."""
        checked = check_payload(
            payload,
            self._catalogue,
            self._now.date(),
            replace_retired=self._session.settings.retired_models == "replace",
        )
        problems = [*checked.problems, *(await self._check_pictures(payload))]
        request = checked.request
        if request is not None and checked.resolved is not None:
            problems += self._check_price(request, checked.resolved.model, intake)
            problems += self._check_twice(request, number)
        return "; ".join(map(str, problems)) or None

    def _check_price(self, request: ImageRequest, model: str, intake: Intake) -> list[Problem]:
        ceiling = price_ceiling(
            self._catalogue.provider, model, request, self._now, self._cards, mode=self._mode
        )
        if ceiling is not None:
            intake.worst_case_micro_usd += ceiling
            return []
        intake.unpriced += 1
        if not self._needs_price:
            return []
        allowed = "with --max-cost, a model whose price is known, as no limit could be kept otherwise"
        return [Problem(field="model", value=describe_value("model", model), allowed=allowed)]

    def _check_twice(self, request: ImageRequest, number: int) -> list[Problem]:
        run_id = names.run_id_for(request.tenant, request.request_id or "")
        first = self._lines_by_run.setdefault(run_id, number)
        if first == number:
            return []
        value = describe_value("request_id", request.request_id)
        allowed = f"an id that no other line of the tenant has: line {first} has it already"
        return [Problem(field="request_id", value=value, allowed=allowed)]

    async def _check_pictures(self, payload: dict[str, Any]) -> tuple[Problem, ...]:
        """Looks at the pictures to edit; a set of them that many lines share is looked at once."""
        if not (payload.get("images") or payload.get("mask")):
            return ()
        key = json.dumps([payload.get("images"), payload.get("mask")], sort_keys=True)
        if key not in self._pictures:
            if len(self._pictures) >= _MAX_PICTURES_REMEMBERED:
                self._pictures.clear()
            self._pictures[key] = await check_pictures(payload, self._session, set())
        return self._pictures[key]


def _canonical(line: FileLine, payload: dict[str, Any] | None) -> bytes:
    """What makes a line another one: what it asks, whatever the order of names and the blanks between them."""
    if payload is None:
        return b"%d %b\n" % (line.number, hashlib.sha256(line.source).hexdigest().encode())
    text = json.dumps(payload, sort_keys=True, separators=(",", ":"))
    return b"%d %b\n" % (line.number, text.encode())
