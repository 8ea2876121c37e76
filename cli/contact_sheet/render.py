"""The contact sheet of a batch: every line with its pictures, state and charge, in one HTML file for any browser.

Rows are read one at a time and not kept: a sheet of 10,000 lines needs no more memory than one of 10. The markup is in
`templates/`: `card.html.j2` for a row, `page.html.j2` for the page around the cards.
"""

import asyncio
from base64 import b64encode
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Iterable,
    Iterator,
    Sequence,
)
from contextlib import aclosing
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment

from cli.contact_sheet.rows import (
    LARGE_UP_TO,
    SMALL_UP_TO,
    SheetFile,
    SheetRow,
    SheetTotals,
    Shot,
    Thumbnailer,
)
from cli.dates import format_moment
from cli.html import load_templates
from cli.runs.view import describe_bytes
from gpt_image_runs.contracts.money import format_usd
from gpt_image_runs.images.store import ImageStore

__all__ = ["SheetRow", "SheetTotals", "WrittenSheet", "write_contact_sheet"]

# Rows whose pictures are read while an earlier one is written; at most ten pictures each.
_ROWS_AHEAD = 8


@cache
def _load_templates() -> Environment:
    return load_templates(
        Path(__file__).parent / "templates", base64=_encode_base64, file_size=describe_bytes, usd=format_usd
    )


def _encode_base64(data: bytes) -> str:
    return b64encode(data).decode()


def _render_card(row: SheetRow, shots: Sequence[Shot], link: str | None) -> str:
    """Render the list item of a row. `link` is the run's page in the Web UI."""
    is_web_page = link is not None and link.startswith(("https://", "http://"))
    card = _load_templates().get_template("card.html.j2")
    return card.render(row=row, shots=shots, link=link if is_web_page else None)


def _render_page(title: str, note: str | None, totals: SheetTotals, cards: Iterator[str]) -> Iterator[str]:
    """Yield the page in parts. `note` is a sentence below the title, `cards` is the markup of all cards."""
    return (
        _load_templates()
        .get_template("page.html.j2")
        .generate(
            title=title,
            note=note,
            written=format_moment(datetime.now(UTC)),
            totals=totals,
            facets=[
                (name, legend, counts.most_common())
                for name, legend, counts in (
                    ("state", "State", totals.states),
                    ("bill", "Bill", totals.bills),
                )
                if len(counts) > 1
            ],
            large_up_to=LARGE_UP_TO,
            small_up_to=SMALL_UP_TO,
            cards=cards,
        )
    )


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
    """Write the page of all rows, in their order, and replace the file at `path` only when it is complete.

    `note` is a sentence below the title, `link_to_run` gives the http address of a run's page in the Web UI, `tell`
    is called with the number of rows written. A picture that is missing or damaged is shown as that, with its hash.

    Raises:
        CommandFailed: the file cannot be written; the message says why.
        ValueError: the charge of a row is not a valid amount in USD.
    """
    totals = SheetTotals()
    file = await asyncio.to_thread(SheetFile, path)
    try:
        async with aclosing(_draw_rows(rows, Thumbnailer(store))) as drawn:
            async for row, shots in drawn:
                link = link_to_run(row.run_id) if link_to_run else None
                await asyncio.to_thread(file.add, _render_card(row, shots, link))
                totals.add(row, pictures_lost=sum(shot.fault is not None for shot in shots))
                if tell:
                    tell(totals.lines)
        size = await asyncio.to_thread(file.finish, lambda cards: _render_page(title, note, totals, cards))
    finally:
        await asyncio.to_thread(file.close)
    return WrittenSheet(path, size, totals)


async def _draw_rows(
    rows: Iterable[SheetRow] | AsyncIterable[SheetRow], thumbnailer: Thumbnailer
) -> AsyncGenerator[_DrawnRow, None]:
    """Yield each row with its pictures, in order, while those of the next rows are read."""
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
