"""The manifest of a batch as a file: JSON Lines, or a table for people who have one program for everything."""

import csv
import io
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from billing.batch_results import LineResult
from cli.csv_cells import defuse
from cli.failures import RequestRefused
from cli.whole_files import replace_whole

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
)


_BEGINNINGS = {".csv": "line,run_id,state,", ".jsonl": '{"line":'}


def check_manifest_path(path: Path) -> None:
    """Raises RequestRefused where the name's ending says neither .jsonl nor .csv, or the file is there and no manifest.

    A batch's id is its file's name: results under that name would take the place of the requests.
    """
    beginning = _BEGINNINGS.get(path.suffix.lower())
    if beginning is None:
        raise RequestRefused(
            f"{path} ends in neither .jsonl nor .csv, which say what is written. Nothing was written."
        )
    with suppress(OSError):  # whatever is there, writing will tell
        with path.open("rb") as file:
            found = file.read(len(beginning))
        if found and found != beginning.encode():
            raise RequestRefused(
                f"{path} is there already and holds no results of a batch. Give another name, such as"
                f" {path.with_stem(path.stem + '-results')}. Nothing was written."
            )


def write_manifest(results: Iterable[LineResult], path: Path) -> int:
    """Writes a line for each line of the batch, the file whole or not at all; returns how many.

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
            "simulated": "" if result.simulated is None else str(result.simulated).lower(),
            "error": defuse(result.error),
        }
        writer.writerow(row)
        count += 1
    return count
