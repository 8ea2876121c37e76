"""The contact sheet of a batch: every line with its pictures, its state and its charge, in one file for any browser.

Rows are taken one by one and forgotten: a sheet of 10,000 lines needs no more memory than one of 10. What a card
looks like is in `cli.sheet_cards`, the page around it in `cli.sheet_page` and `cli/contact_sheet_page/`.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable
from contextlib import aclosing
from pathlib import Path
from typing import NamedTuple

from cli.sheet_cards import render_card
from cli.sheet_file import SheetFile
from cli.sheet_page import render_page
from cli.sheet_rows import SheetRow, SheetTotals
from cli.sheet_thumbnails import Shot, Thumbnailer
from imaging.store import ImageStore

__all__ = ["SheetRow", "SheetTotals", "WrittenSheet", "write_contact_sheet"]

_ROWS_AHEAD = 8
"""Rows whose pictures are read while an earlier one is written; at most ten pictures each."""


class WrittenSheet(NamedTuple):
    """A sheet that is done: its file, the file's bytes, and what its rows add up to."""

    path: Path
    bytes: int
    totals: SheetTotals


class _DrawnRow(NamedTuple):
    row: SheetRow
    shots: list[Shot]


async def write_contact_sheet(
    title: str,
    rows: Iterable[SheetRow] | AsyncIterable[SheetRow],
    store: ImageStore,
    path: Path,
    *,
    note: str | None = None,
    link_to_run: Callable[[str], str | None] | None = None,
    tell: Callable[[int], None] | None = None,
) -> WrittenSheet:
    """Writes the page of all rows, in their order, whole or not at all; what was at `path` before gives way to it.

    `note` is a sentence below the title, `link_to_run` gives the http address of a run's page in the Web UI, `tell`
    hears how many rows are written. A picture that is missing or damaged is shown as that, with its hash.

    Raises:
        CommandFailed: the file cannot be written; the message says why.
        ValueError: the charge of a row is no amount in USD.
    """
    totals = SheetTotals()
    file = await asyncio.to_thread(SheetFile, path)
    try:
        async with aclosing(_draw_rows(rows, Thumbnailer(store))) as drawn:
            async for row, shots in drawn:
                link = link_to_run(row.run_id) if link_to_run else None
                await asyncio.to_thread(file.add, render_card(row, shots, link))
                totals.add(row, pictures_lost=sum(shot.fault is not None for shot in shots))
                if tell:
                    tell(totals.lines)
        page = render_page(title, note, totals)
        size = await asyncio.to_thread(file.finish, page.head, page.foot)
    finally:
        await asyncio.to_thread(file.close)
    return WrittenSheet(path, size, totals)


async def _draw_rows(
    rows: Iterable[SheetRow] | AsyncIterable[SheetRow], thumbnailer: Thumbnailer
) -> AsyncGenerator[_DrawnRow, None]:
    """Each row with its pictures, in order, while those of the next rows are read."""
    ahead = deque[asyncio.Task[_DrawnRow]]()
    try:
        async for row in _iterate(rows):
            ahead.append(asyncio.create_task(_draw_row(row, thumbnailer)))
            if len(ahead) >= _ROWS_AHEAD:
                yield await ahead.popleft()
        while ahead:
            yield await ahead.popleft()
    finally:
        for task in ahead:
            task.cancel()
        await asyncio.gather(*ahead, return_exceptions=True)


async def _draw_row(row: SheetRow, thumbnailer: Thumbnailer) -> _DrawnRow:
    return _DrawnRow(row, await asyncio.gather(*(thumbnailer.make_shot(image) for image in row.pictures)))


async def _iterate(rows: Iterable[SheetRow] | AsyncIterable[SheetRow]) -> AsyncIterator[SheetRow]:
    if isinstance(rows, AsyncIterable):
        async for row in rows:
            yield row
    else:
        for row in rows:
            yield row
