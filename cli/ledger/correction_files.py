"""Read corrections from files: one usage object, or many lines, which are all checked before any is started."""

import csv
import io
import re
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any, NamedTuple

from cli import options
from cli.errors import RequestRefused
from cli.files import name_source, read_document, read_source
from gpt_image_runs.billing.pricing.usage import UnbillableUsage, require_usage
from gpt_image_runs.contracts.corrections import Correction
from gpt_image_runs.contracts.problems import InvalidPayload, parse

_DETAILS = ("input_tokens_details", "output_tokens_details")
COUNTS = (
    "input_tokens",
    "output_tokens",
    "total_tokens",
    *(f"{details}.{kind}" for details in _DETAILS for kind in ("text_tokens", "image_tokens")),
)
_COLUMNS = ("run_id", "reason", *COUNTS)
_COUNT = re.compile(r"\d{1,15}", re.ASCII)

Row = dict[str | None, Any]


def list_rows(text: str, source: str) -> Iterator[tuple[int, Row]]:
    """Yield the rows below the header, each with its line number in the file.

    Raises:
        RequestRefused: the header has other columns, or the file is not CSV.
    """
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True)
    try:
        header = reader.fieldnames or []
        unknown = [name for name in header if name not in _COLUMNS or header.count(name) > 1]
        if unknown or "run_id" not in header:
            wrong = (
                f"has the column {unknown[0]!a}, which is unknown or repeated"
                if unknown
                else "has no column run_id"
            )
            raise RequestRefused(
                f"{source} {wrong}; the columns are {', '.join(_COLUMNS)}. Nothing was started."
            )
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise RequestRefused(
            f"{source} is not CSV (line {reader.reader.line_num}: {error}). Nothing was started."
        ) from None


def parse_row(row: Row, place: str) -> dict[str, Any]:
    """Convert a row to the form of a JSON Lines line. An empty cell is a missing count.

    Raises:
        RequestRefused: a count is not a whole number, or there are more cells than columns.
    """
    if None in row:
        raise RequestRefused(f"{place} has more cells than the header has columns.")
    usage: dict[str, Any] = {}
    for name in COUNTS:
        cell = (row.get(name) or "").strip()
        if not cell:
            continue
        if not _COUNT.fullmatch(cell):
            raise RequestRefused(f"{place}: {name} is {cell!a}, which is not a whole number.")
        details, _, kind = name.rpartition(".")
        (usage.setdefault(details, {}) if details else usage)[kind] = int(cell)
    named = {name: (row.get(name) or "").strip() for name in ("run_id", "reason")}
    return {"usage": usage, **{name: text for name, text in named.items() if text}}


_FIELDS = {"run_id", "usage", "reason"}


class Defaults(NamedTuple):
    """Values for lines that do not have them: the tenant of request ids, the reason, and the actor."""

    tenant: str
    reason: str | None
    actor: str


def read_usage_file(file: str) -> dict[str, Any]:
    """Read the usage object in a file.

    Raises:
        RequestRefused: it cannot be read, or is not a usage that can be billed.
    """
    source = name_source(file)
    usage = read_document(read_source(file), source, wanted="usage")
    _check_usage(usage, source)
    return usage


def make_correction(**fields: Any) -> Correction:
    """Build a correction from the fields that are not None.

    Raises:
        RequestRefused: with all problems.
    """
    try:
        given = {name: value for name, value in fields.items() if value is not None}
        return parse(Correction, given, "correction")
    except InvalidPayload as error:
        raise RequestRefused(f"{error} Nothing was started.") from None


def read_corrections(file: str, defaults: Defaults) -> tuple[Correction, ...]:
    """Read the corrections in a file: CSV if its name ends in .csv, otherwise JSON Lines.

    Raises:
        RequestRefused: with every line that is wrong, by its number. Then none of the lines may be started.
    """
    problems: list[str] = []
    corrections: dict[str, tuple[str, Correction]] = {}
    for place, line in _list_lines(file):
        try:
            correction = _read_line(line, place, defaults)
        except RequestRefused as problem:
            problems.append(str(problem))
            continue
        first, _ = corrections.setdefault(correction.run_id, (place, correction))
        if first != place:
            problems.append(f"{place}: {correction.run_id} is already on {first}.")
    if problems or not corrections:
        told = "\n".join(problems) or "It contains no lines."
        raise RequestRefused(f"{name_source(file)} is refused, nothing was started:\n{told}", lines=problems)
    return tuple(correction for _, correction in corrections.values())


def _list_lines(file: str) -> Iterator[tuple[str, Any]]:
    """Yield each line with its position: a row of CSV, or a text that must be JSON."""
    source = name_source(file)
    try:
        text = read_source(file).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RequestRefused(f"{source} is not UTF-8 (byte {error.start}); nothing was started.") from None
    if PurePath(file).suffix.lower() == ".csv":
        yield from ((f"line {number}", row) for number, row in list_rows(text, source))
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield f"line {number}", line


def _read_line(line: Any, place: str, defaults: Defaults) -> Correction:
    said = (
        read_document(line.encode(), place, wanted="correction")
        if isinstance(line, str)
        else parse_row(line, place)
    )
    unknown = sorted(said.keys() - _FIELDS)
    if unknown:
        raise RequestRefused(f"{place} has {unknown[0]!a}; a line has run_id, usage and reason.")
    _check_usage(said.get("usage"), place)
    try:
        return parse(
            Correction,
            {
                "action": "reconcile",
                "run_id": _find_run(said.get("run_id"), defaults.tenant),
                "usage": said["usage"],
                "reason": said.get("reason", defaults.reason or ""),
                "actor": defaults.actor,
            },
            "correction",
        )
    except (InvalidPayload, RequestRefused) as error:
        raise RequestRefused(f"{place}: {error}") from None


def _find_run(said: Any, tenant: str) -> Any:
    return options.find_run_id(said, tenant) if isinstance(said, str) else said


def _check_usage(usage: Any, place: str) -> None:
    try:
        require_usage(usage)
    except UnbillableUsage as error:
        raise RequestRefused(f"{place}: {error} Nothing was started.") from None
