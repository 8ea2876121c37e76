"""The table beside a report: a row for each day, tenant and model, as a spreadsheet takes it in."""

import csv
import io
from collections.abc import Sequence
from typing import BinaryIO

from billing.month_report import Cell
from cli.csv_cells import defuse
from contracts.money import format_usd

COLUMNS = (
    "day",
    "tenant",
    "model",
    "simulated",
    "runs",
    "images",
    "charged_usd",
    "estimated_usd",
    "pending_runs",
    "list_cost_usd",
    "list_cost_unknown",
    "input_tokens",
    "output_tokens",
)


def write_cells(cells: Sequence[Cell], file: BinaryIO) -> None:
    """Writes the heading and a line for each cell."""
    with io.TextIOWrapper(file, encoding="utf-8", newline="") as text:
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(map(_list_values, cells))


def _list_values(cell: Cell) -> tuple[str | int | None, ...]:
    sums = cell.sums
    return (
        cell.day,
        defuse(cell.tenant),
        defuse(cell.model),
        str(cell.simulated).lower(),
        sums.runs,
        sums.images,
        format_usd(sums.charged_micro_usd),
        format_usd(sums.estimated_micro_usd),
        sums.pending,
        format_usd(sums.list_cost_micro_usd),
        sums.list_cost_unknown,
        sums.input_tokens,
        sums.output_tokens,
    )
