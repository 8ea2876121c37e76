"""The command `batch results`: the result of each line of a batch, as a table, a file or a contact sheet."""

import asyncio
import csv
import io
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, TextIO

from rich.table import Table
from rich.text import Text
from typer import Option

from cli import options
from cli.batches.start import BatchId, require_batch
from cli.batches.view import describe_progress, format_counts
from cli.contact_sheet.render import SheetRow, WrittenSheet, write_contact_sheet
from cli.errors import RequestRefused
from cli.files import defuse, replace_whole
from cli.output import Output, make_table
from cli.runs.view import describe_bytes
from cli.session import Session, open_session
from gpt_image_runs.batches.results import LineResult, list_results
from gpt_image_runs.contracts.batches import BatchLine, BatchProgress, page_key, read_page
from gpt_image_runs.database.engine import Database
from gpt_image_runs.images.store import ImageStore

_COLUMNS = (
    "line",
    "run_id",
    "state",
    "uris",
    "sha256s",
    "sizes",
    "input_tokens",
    "output_tokens",
    "charge_usd",
    "billing_state",
    "simulated",
    "error_type",
    "error",
    "without_picture",
)


_BEGINNINGS = {".csv": "line,run_id,state,", ".jsonl": '{"line":'}


def check_manifest_path(path: Path) -> None:
    """Check that a path ends in .jsonl or .csv, and does not hold other content.

    By default a batch's id is its file's name: results under that name would overwrite the requests.

    Raises:
        RequestRefused: the path is not valid, or the file is not a manifest.
    """
    beginning = _BEGINNINGS.get(path.suffix.lower())
    if beginning is None:
        raise RequestRefused(
            f"{path} does not end in .jsonl or .csv, which name the format. Nothing was written."
        )
    with suppress(OSError):  # writing reports what is wrong
        with path.open("rb") as file:
            found = file.read(len(beginning))
        if found and found != beginning.encode():
            raise RequestRefused(
                f"{path} exists and does not hold the results of a batch. Give another name, such as"
                f" {path.with_stem(path.stem + '-results')}. Nothing was written."
            )


def write_manifest(results: Iterable[LineResult], path: Path) -> int:
    """Write a line for each line of the batch, atomically, and return how many.

    Raises:
        OSError: it cannot be written.
    """
    write = _write_table if path.suffix.lower() == ".csv" else _write_lines
    with replace_whole(path) as file, io.TextIOWrapper(file, encoding="utf-8", newline="") as text:
        return write(results, text)


def _write_lines(results: Iterable[LineResult], file: TextIO) -> int:
    count = 0
    for result in results:
        file.write(result.model_dump_json() + "\n")
        count += 1
    return count


def _write_table(results: Iterable[LineResult], file: TextIO) -> int:
    writer, count = csv.DictWriter(file, _COLUMNS, lineterminator="\n", extrasaction="ignore"), 0
    writer.writeheader()
    for result in results:
        row = result.model_dump(mode="json") | {
            "uris": " ".join(picture.uri for picture in result.pictures),
            "sha256s": " ".join(picture.sha256 for picture in result.pictures),
            "sizes": " ".join(f"{picture.width}x{picture.height}" for picture in result.pictures),
            "simulated": _format_answer(result.simulated),
            "without_picture": _format_answer(result.without_picture),
            "error": defuse(result.error),
        }
        writer.writerow(row)
        count += 1
    return count


def _format_answer(answer: object) -> str:
    """Format a boolean for CSV, empty for None."""
    return "" if answer is None else str(answer).lower()


async def write_batch_sheet(
    batch: BatchProgress, results: Iterable[LineResult], session: Session, path: Path
) -> WrittenSheet:
    """Write the contact sheet of all lines, with their images and prompts from the image store.

    Raises:
        CommandFailed: the file cannot be written.
        StoreUnavailable: the store does not answer.
    """
    store = session.open_store()
    note = f"{format_counts(batch)}. {batch.reason or ''}".strip()
    rows = _join(results, _read_requests(batch, store))
    return await write_contact_sheet(f"Batch {batch.batch_id}", rows, store, path, note=note)


async def _join(results: Iterable[LineResult], requests: AsyncIterator[BatchLine]) -> AsyncIterator[SheetRow]:
    """Yield a row for each result with its request, both in the order of the file."""
    known = await anext(requests, None)
    for result in results:
        while known and known.line < result.line:
            known = await anext(requests, None)
        yield _make_row(result, known if known and known.line == result.line else None)


async def _read_requests(batch: BatchProgress, store: ImageStore) -> AsyncIterator[BatchLine]:
    """Yield the lines of the batch's pages. The lines of a missing page are left out."""
    for page in range(batch.pages):
        data = await store.read_document(page_key(batch.batch_id, batch.digest, page))
        for line in read_page(data or b""):
            yield line


def _make_row(result: LineResult, line: BatchLine | None) -> SheetRow:
    asked = (line.request if line else None) or {}
    texts = {name: str(asked[name]) if asked.get(name) else None for name in ("size", "quality")}
    return SheetRow(
        line=result.line,
        run_id=result.run_id or "",
        prompt=str(asked.get("prompt") or ""),
        model=str(asked.get("model") or ""),
        size=texts["size"],
        quality=texts["quality"],
        state=result.state,
        billing_state=result.billing_state,
        charge_usd=result.charge_usd,
        error=result.error,
        pictures=result.pictures,
    )


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
    messages = []
    if out is not None:
        count = write_manifest(list_results(database, progress.batch_id), out)
        document |= {"file": str(out), "lines": count}
        messages.append(f"{count:,} lines are in {out}.")
    if html is not None:
        lines = list_results(database, progress.batch_id)
        sheet = asyncio.run(write_batch_sheet(progress, lines, session, html))
        document |= {"sheet": str(html), "sheet_bytes": sheet.bytes, "pictures": sheet.totals.pictures}
        messages.append(f"{sheet.totals.pictures:,} pictures are on {html}, {describe_bytes(sheet.bytes)}.")
    output.answer(document, Text("\n".join(messages)))


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
        state = f"{line.state}, no picture" if line.without_picture else line.state
        charge = line.charge_usd or ("not known yet" if line.billing_state == "pending" else "")
        table.add_row(
            f"{line.line:,}", Text(line.run_id or ""), state, *counts, charge, line.billing_state or ""
        )
    return table


def _list_errors(lines: list[LineResult]) -> list[Text]:
    return [Text(f"line {line.line:,}: {line.error_type}: {line.error}") for line in lines if line.error]
