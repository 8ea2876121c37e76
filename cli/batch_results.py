"""`batch results`: what became of each line of a batch."""

import asyncio
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

from rich.table import Table
from rich.text import Text
from typer import Option

from billing.batch_results import LineResult, list_results
from billing.database import Database
from cli import options
from cli.batch_manifest import check_manifest_path, write_manifest
from cli.batch_options import BatchId
from cli.batch_sheet import write_batch_sheet
from cli.batch_starting import require_batch
from cli.batch_view import describe_progress
from cli.output import Output, make_table
from cli.run_view import describe_bytes
from cli.session import Session, open_session
from contracts.batches import BatchProgress

_SHOWN = 50


def results(
    *,
    batch_id: BatchId,
    out: Annotated[
        Path | None, Option(metavar="FILE", help="Write them to a .jsonl or a .csv.", show_default=False)
    ] = None,
    html: Annotated[
        Path | None,
        Option(metavar="FILE", help="Write a contact sheet: one page for any browser.", show_default=False),
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Show what became of each line: its run, pictures, tokens, charge and error.

    The ledger is asked, so that corrections made since are included.
    """
    session, output = open_session(), Output(as_json=as_json)
    if out is not None:
        check_manifest_path(out)
    progress = require_batch(session, batch_id)
    with session.open_ledger() as database:
        if out is not None or html is not None:
            _write_files(progress, database, session, output, out=out, html=html)
        else:
            _show(progress, list_results(database, batch_id), output)


def _write_files(
    progress: BatchProgress,
    database: Database,
    session: Session,
    output: Output,
    *,
    out: Path | None,
    html: Path | None,
) -> None:
    document: dict[str, Any] = {"batch_id": progress.batch_id, "lines": progress.lines}
    told = []
    if out is not None:
        count = write_manifest(list_results(database, progress.batch_id), out)
        document |= {"file": str(out), "lines": count}
        told.append(f"{count:,} lines are in {out}.")
    if html is not None:
        lines = list_results(database, progress.batch_id)
        sheet = asyncio.run(write_batch_sheet(progress, lines, session, html))
        document |= {"sheet": str(html), "sheet_bytes": sheet.bytes, "pictures": sheet.totals.pictures}
        told.append(f"{sheet.totals.pictures:,} pictures are on {html}, {describe_bytes(sheet.bytes)}.")
    output.answer(document, Text("\n".join(told)))


def _show(progress: BatchProgress, lines: Iterator[LineResult], output: Output) -> None:
    if output.as_json:
        listed = [line.model_dump(mode="json") for line in lines]
        output.answer({"batch": progress.model_dump(mode="json"), "lines": listed})
        return
    shown = list(islice(lines, _SHOWN))
    output.answer(None, describe_progress(progress), _tabulate(shown), *_list_errors(shown))
    if progress.lines > _SHOWN:
        output.say(f"The first {_SHOWN} lines; --out FILE.jsonl or FILE.csv has them all.")


def _tabulate(lines: list[LineResult]) -> Table:
    numbers = ("Line", "Tokens in", "Tokens out", "Charge USD")
    table = make_table("Line", "Run", "State", *numbers[1:], "Billing", right=numbers)
    for line in lines:
        counts = ["" if count is None else f"{count:,}" for count in (line.input_tokens, line.output_tokens)]
        charge = line.charge_usd or ("not known yet" if line.billing_state == "pending" else "")
        table.add_row(
            f"{line.line:,}", Text(line.run_id or ""), line.state, *counts, charge, line.billing_state or ""
        )
    return table


def _list_errors(lines: list[LineResult]) -> list[Text]:
    return [Text(f"line {line.line:,}: {line.error_type}: {line.error}") for line in lines if line.error]
