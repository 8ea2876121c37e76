"""Tables of a report's page: amounts to the micro-dollar, readable to the cent."""

from collections.abc import Sequence

from cli.page_text import escape
from contracts.money import format_usd

_CENTS = 2
MORE = '<span class="more">+</span>'
"""Behind a sum that leaves something out, and is a lower bound."""


def show_usd(micro_usd: int) -> str:
    """An amount as markup: "1,234.56" and, more quietly, the four digits that follow."""
    whole, _, rest = format_usd(micro_usd).partition(".")
    sign, digits = ("-", whole[1:]) if whole.startswith("-") else ("", whole)
    return f'{sign}{int(digits):,}.{rest[:_CENTS]}<span class="fine">{rest[_CENTS:]}</span>'


def show_count(count: int) -> str:
    """A number with its thousands told apart; a zero is quiet."""
    return f"{count:,}" if count else '<span class="none">0</span>'


def render_table(
    caption: str, columns: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]], total: Sequence[str]
) -> str:
    """A table. A row is its name, a stranger's text, and cells that are markup; `total` is the cells of the last row."""
    heads = "".join(f'<th scope="col">{name}</th>' for name in columns)
    body = "".join(
        f'<tr><th scope="row" dir="auto">{escape(name)}</th>{_render_cells(cells)}</tr>\n'
        for name, cells in rows
    )
    foot = f'<tfoot><tr><th scope="row">Total</th>{_render_cells(total)}</tr></tfoot>\n' if total else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}"><table>\n'
        f"<caption>{escape(caption)}</caption>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{body}</tbody>\n{foot}"
        "</table></div>\n"
    )


def _render_cells(cells: Sequence[str]) -> str:
    return "".join(f"<td>{cell}</td>" for cell in cells)
