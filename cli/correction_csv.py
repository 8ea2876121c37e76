"""Usages in a table: a CSV file whose columns are a run, a reason, and the counts that make a usage."""

import csv
import io
import re
from collections.abc import Iterator
from typing import Any

from cli.failures import RequestRefused

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
    """The rows below the header, each with the number of its line in the file.

    Raises:
        RequestRefused: the header has other columns, or the file is no CSV.
    """
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True)
    try:
        header = reader.fieldnames or []
        unknown = [name for name in header if name not in _COLUMNS or header.count(name) > 1]
        if unknown or "run_id" not in header:
            wrong = f"has the column {unknown[0]!a}, unknown or twice" if unknown else "has no column run_id"
            raise RequestRefused(
                f"{source} {wrong}; the columns are {', '.join(_COLUMNS)}. Nothing was started."
            )
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise RequestRefused(
            f"{source} is no CSV (line {reader.reader.line_num}: {error}). Nothing was started."
        ) from None


def parse_row(row: Row, place: str) -> dict[str, Any]:
    """The row as a line of JSON Lines would say it. An empty cell is an absent count.

    Raises:
        RequestRefused: a count that is no whole number, or more cells than columns.
    """
    if None in row:
        raise RequestRefused(f"{place} has more cells than the header has columns.")
    usage: dict[str, Any] = {}
    for name in COUNTS:
        cell = (row.get(name) or "").strip()
        if not cell:
            continue
        if not _COUNT.fullmatch(cell):
            raise RequestRefused(f"{place}: {name} is {cell!a}, no whole number.")
        details, _, kind = name.rpartition(".")
        (usage.setdefault(details, {}) if details else usage)[kind] = int(cell)
    named = {name: (row.get(name) or "").strip() for name in ("run_id", "reason")}
    return {"usage": usage, **{name: text for name, text in named.items() if text}}
