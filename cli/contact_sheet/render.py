"""The contact sheet of a batch: every line with its pictures, its state and its charge, in one file for any browser.

Rows are taken one by one and forgotten: a sheet of 10,000 lines needs no more memory than one of 10. What a card
looks like is in `cli.contact_sheet.render`, the page around it in `cli.contact_sheet.render` and `cli/contact_sheet_page/`.
"""

import asyncio
from base64 import b64encode
from collections import Counter, deque
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
from pathlib import Path
from typing import NamedTuple

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
from cli.html import PageFiles, escape, shorten
from cli.runs.view import describe_bytes
from gpt_image_runs.contracts.money import format_usd
from gpt_image_runs.images.store import ImageStore

_MAX_PROMPT, _MAX_ERROR, _MAX_ALT = 200, 160, 120
_ACROSS = ((1, ""), (4, " across-2"), (9, " across-3"))


def render_card(row: SheetRow, shots: Sequence[Shot], link: str | None) -> str:
    """The list item of a row. `link` is the run's page in the Web UI."""
    error = f'<p class="error" dir="auto">{escape(shorten(row.error, _MAX_ERROR))}</p>\n' if row.error else ""
    return (
        f'<li class="card"{_render_data(row, shots)}>\n'
        f"{_render_pictures(row, shots)}\n"
        f'<div class="facts">\n'
        f'<p class="top"><span class="line">Line {row.line:,}</span> <bdi class="state">{escape(row.state)}</bdi></p>\n'
        f'<p class="prompt" dir="auto">{escape(_name_prompt(row, _MAX_PROMPT))}</p>\n'
        f"{error}"
        f'<p class="meta">{_describe_making(row, shots)}</p>\n'
        f'<p class="bill">{_describe_charge(row)} <bdi>{escape(row.bill)}</bdi></p>\n'
        f'<details><summary aria-label="Details of line {row.line:,}">Details</summary>\n'
        f'<dl class="details">{"".join(_list_details(row, shots, link))}</dl></details>\n'
        "</div>\n</li>\n"
    )


def _render_data(row: SheetRow, shots: Sequence[Shot]) -> str:
    """What the page's script filters and sorts by. An amount or a size that is not known has no attribute."""
    data = [f' data-state="{escape(row.state)}" data-bill="{escape(row.bill)}"']
    charge = row.charge_micro_usd
    if charge is not None:
        data.append(f' data-charge="{charge}"')
    if shots:
        image = shots[0].image
        data.append(f' data-pixels="{image.width * image.height}"')
    return "".join(data)


def _render_pictures(row: SheetRow, shots: Sequence[Shot]) -> str:
    if not shots:
        return '<div class="pictures"><p class="empty">no picture</p></div>'
    across = next((name for most, name in _ACROSS if len(shots) <= most), " across-4")
    pictures = "".join(
        _render_picture(row, shot, number, len(shots)) for number, shot in enumerate(shots, start=1)
    )
    return f'<div class="pictures{across}">{pictures}</div>'


def _render_picture(row: SheetRow, shot: Shot, number: int, count: int) -> str:
    if shot.fault:
        sha256 = escape(shot.image.sha256)
        return f'<p class="lost"><b>{shot.fault}</b> <code title="{sha256}">{sha256[:12]}</code></p>'
    if not shot.thumbnail:
        return '<p class="empty">not embedded</p>'
    data, width, height, has_alpha = shot.thumbnail
    clear = ' class="clear"' if has_alpha else ""
    of = f", picture {number} of {count}" if count > 1 else ""
    alt = escape(f"Line {row.line:,}{of}: {_name_prompt(row, _MAX_ALT)}")
    return (
        f'<img{clear} loading="lazy" decoding="async" width="{width}" height="{height}" alt="{alt}"'
        f' src="data:image/webp;base64,{b64encode(data).decode()}">'
    )


def _name_prompt(row: SheetRow, most: int) -> str:
    return shorten(row.prompt, most) or "(no prompt)"


def _describe_making(row: SheetRow, shots: Sequence[Shot]) -> str:
    size = f"{shots[0].image.width}x{shots[0].image.height}" if shots else row.size
    if shots and row.size and row.size != size:
        size = f"{size} (asked for: {row.size})"
    parts = [part for part in (size, row.quality, row.model) if part]
    return " · ".join(f"<bdi>{escape(part)}</bdi>" for part in parts)


def _describe_charge(row: SheetRow) -> str:
    if row.charge_usd is None:
        return "<b>not known yet</b>" if row.billing_state else "<b>&#8211;</b>"
    so_far = " so far" if row.billing_state == "pending" else ""
    return f"<b>{escape(row.charge_usd)} USD{so_far}</b>"


def _list_details(row: SheetRow, shots: Sequence[Shot], link: str | None) -> Iterator[str]:
    yield f'<div><dt>Prompt</dt><dd class="whole" dir="auto" tabindex="0">{escape(row.prompt)}</dd></div>'
    if row.error:
        yield f'<div><dt>Error</dt><dd class="whole" dir="auto">{escape(row.error)}</dd></div>'
    run = f"<bdi>{escape(row.run_id)}</bdi>"
    yield _describe("Run", _link_to(link, run) if link and link.startswith(("https://", "http://")) else run)
    for number, shot in enumerate(shots, start=1):
        yield _describe(f"Picture {number}" if len(shots) > 1 else "Picture", _describe_shot(shot))


def _describe_shot(shot: Shot) -> str:
    image = shot.image
    kind = escape(image.media_type.removeprefix("image/"))
    uri = f"<bdi>{escape(image.uri)}</bdi>"
    why = f'<div dir="auto"><b>{shot.fault}</b>: {escape(shot.why or "")}</div>' if shot.fault else ""
    return (
        f"{why}{image.width}x{image.height} {kind}, {describe_bytes(image.bytes)}<br>"
        f"{_link_to(image.uri, uri) if image.uri.startswith('file:///') else uri}<br>"
        f"<code>sha256 {escape(image.sha256)}</code>"
    )


def _describe(name: str, markup: str) -> str:
    return f"<div><dt>{name}</dt><dd>{markup}</dd></div>"


def _link_to(address: str, markup: str) -> str:
    return f'<a href="{escape(address)}" target="_blank" rel="noopener noreferrer">{markup}</a>'


_FOLDER = Path(__file__).parent / "templates"
_CARDS_GO_HERE = "$cards"


class Page(NamedTuple):
    """The HTML before the cards and after them."""

    head: str
    foot: str


def render_page(title: str, note: str | None, totals: SheetTotals) -> Page:
    """The page of a sheet whose cards are all counted. `note` is a sentence below the title."""
    values = {
        "title": escape(title),
        "note": f'<p class="note" dir="auto">{escape(note)}</p>\n' if note else "",
        "written": format_moment(datetime.now(UTC)),
        "totals": "".join(_list_totals(totals)),
        "facets": _render_facet("state", "State", totals.states)
        + _render_facet("bill", "Bill", totals.bills),
        "remarks": "".join(f"<p>{remark}</p>\n" for remark in _list_remarks(totals)),
    }
    return Page(*PageFiles(_FOLDER).render(values, gap=_CARDS_GO_HERE))


def _list_totals(totals: SheetTotals) -> Iterator[str]:
    charged = f"{totals.charged_usd} USD" if totals.charged_lines else "nothing yet"
    estimated = (
        f", {format_usd(totals.estimated_micro_usd)} of it estimated" if totals.bills["estimated"] else ""
    )
    yield _render_total("Charged", charged, f"for {_count(totals.charged_lines, 'line')}{estimated}")
    if totals.pending_lines:
        waiting = _count(totals.pending_lines, "line")
        yield _render_total("Pending", waiting, "amounts not known yet, not in the total", kind="wait")
    states = ", ".join(
        f"{count:,} <bdi>{escape(state)}</bdi>" for state, count in totals.states.most_common()
    )
    yield _render_total("Lines", f"{totals.lines:,}", states)
    yield _render_total("Pictures", f"{totals.pictures:,}", "")
    if totals.pictures_lost:
        yield _render_total(
            "Cannot be shown",
            _count(totals.pictures_lost, "picture"),
            "missing, damaged or not read",
            kind="bad",
        )


def _render_total(name: str, value: str, more: str, kind: str = "") -> str:
    small = f"<small>{more}</small>" if more else ""
    return f'<div class="{kind}"><dt>{name}</dt><dd>{value}{small}</dd></div>\n'


def _render_facet(name: str, legend: str, counts: Counter[str]) -> str:
    if len(counts) < 2:  # noqa: PLR2004 - one value is no choice
        return ""
    chips = "".join(
        f'<label class="chip"><input type="checkbox" name="{name}" value="{escape(value)}">'
        f"<bdi>{escape(value)}</bdi> <small>{count:,}</small></label>\n"
        for value, count in counts.most_common()
    )
    return f"<fieldset><legend>{legend}</legend>\n{chips}</fieldset>\n"


def _list_remarks(totals: SheetTotals) -> Iterator[str]:
    yield "Thumbnails are inside this file, which loads nothing from anywhere; the pictures stay in the image store."
    if totals.pictures > LARGE_UP_TO:
        yield f"After the first {LARGE_UP_TO:,} pictures the thumbnails are smaller, so that the page stays light."
    if totals.pictures > SMALL_UP_TO:
        yield f"After {SMALL_UP_TO:,} pictures there are none: the others are named below Details, and not checked."


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


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
