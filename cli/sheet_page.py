"""The page around a contact sheet's cards: its title, its totals, its filters, its remarks. Its files are `cli.page_files`'s."""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from cli.moments import format_moment
from cli.page_files import PageFiles
from cli.page_text import escape
from cli.sheet_rows import SheetTotals
from cli.sheet_thumbnails import LARGE_UP_TO, SMALL_UP_TO
from contracts.money import format_usd

_FOLDER = Path(__file__).parent / "contact_sheet_page"
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
