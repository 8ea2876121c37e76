"""The `report` command: a month for finance, as a page with plots and a CSV file beside it."""

import csv
import io
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, BinaryIO

from rich.text import Text
from typer import Option

from cli import options
from cli.dates import Month, parse_month
from cli.errors import RequestRefused
from cli.files import defuse, make_room, replace_whole, tell_unwritable
from cli.output import Output
from cli.report.page import render_report
from cli.session import open_session
from gpt_image_runs.billing.reports.month import Cell, MonthReport, Sums, add_up, read_month
from gpt_image_runs.contracts.money import format_usd

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
    """Write the header and a line for each cell."""
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


def report(
    *,
    month: Annotated[
        Month, Option(parser=parse_month, metavar="MONTH", help="Which month (UTC), such as 2026-11.")
    ],
    out: Annotated[
        Path, Option(metavar="FILE", help="The page, a .html; a .csv of the same name is put beside it.")
    ],
    tenant: options.AnyTenant = None,
    as_json: options.AsJson = False,
) -> None:
    """Write a month for finance: a page with plots, and a table for a spreadsheet.

    An amount belongs to the day on which its entry was written (UTC), a correction to its own day.
    """
    now, output = datetime.now(UTC), Output(as_json=as_json)
    if out.suffix.lower() != ".html":
        raise RequestRefused(f"{out} does not end in .html, which is what is written. Nothing was written.")
    if month.since > now:
        raise RequestRefused(
            f"{month} has not begun yet, so there is nothing to report. Nothing was written."
        )
    with open_session().open_ledger() as database:
        read = read_month(database, month.since, month.until, now, tenant=tenant)
    table = out.with_suffix(".csv")
    page = render_report(month, read, now, tenant=tenant, table_name=table.name)
    _write(read, page, out, table)
    output.answer(_document(month, read, out, table), Text(_describe(month, read, out, table)))


def _write(read: MonthReport, page: str, out: Path, table: Path) -> None:
    """Write both files, or neither where one of them cannot be written."""
    with tell_unwritable(f"The report {out}"):
        make_room(out)
        make_room(table)
        with replace_whole(table) as table_file, replace_whole(out) as page_file:
            page_file.write(page.encode())
            write_cells(read.cells, table_file)


def _sum_up(read: MonthReport, *, simulated: bool) -> Sums:
    return add_up(cell.sums for cell in read.cells if cell.simulated == simulated)


def _document(month: Month, read: MonthReport, out: Path, table: Path) -> dict[str, Any]:
    return {
        "month": str(month),
        "file": str(out),
        "table": str(table),
        "rows": len(read.cells),
        "real": _show(_sum_up(read, simulated=False)),
        "simulated": _show(_sum_up(read, simulated=True)),
    }


def _show(sums: Sums) -> dict[str, Any]:
    return {
        "runs": sums.runs,
        "images": sums.images,
        "charged_usd": format_usd(sums.charged_micro_usd),
        "estimated_usd": format_usd(sums.estimated_micro_usd),
        "total_usd": format_usd(sums.total_micro_usd),
        "pending": sums.pending,
        "list_cost_usd": format_usd(sums.list_cost_micro_usd),
        "list_cost_unknown": sums.list_cost_unknown,
        "input_tokens": sums.input_tokens,
        "output_tokens": sums.output_tokens,
    }


def _describe(month: Month, read: MonthReport, out: Path, table: Path) -> str:
    if not read.cells:
        told = f"No entry was written in {month.name}."
    else:
        real, simulated = (_sum_up(read, simulated=each) for each in (False, True))
        told = f"{month.name}: {format_usd(real.total_micro_usd)} USD for {real.runs:,} runs"
        told += f", and {simulated.runs:,} simulated ones." if simulated.runs else "."
    return f"{told}\nThe page is {out}, the table {table}, {len(read.cells):,} rows."
