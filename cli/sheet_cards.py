"""A row of a contact sheet as HTML: a card, with all that is known below "Details".

Whatever comes from outside goes through `escape`, and stands in an element of its own with `dir="auto"` or in a
`bdi`: its direction marks then rearrange nothing around it.
"""

from base64 import b64encode
from collections.abc import Iterator, Sequence

from cli.page_text import escape, shorten
from cli.run_view import describe_bytes
from cli.sheet_rows import SheetRow
from cli.sheet_thumbnails import Shot

_LONGEST_PROMPT, _LONGEST_ERROR, _LONGEST_ALT = 200, 160, 120
_ACROSS = ((1, ""), (4, " across-2"), (9, " across-3"))


def render_card(row: SheetRow, shots: Sequence[Shot], link: str | None) -> str:
    """The list item of a row. `link` is the run's page in the Web UI."""
    error = (
        f'<p class="error" dir="auto">{escape(shorten(row.error, _LONGEST_ERROR))}</p>\n' if row.error else ""
    )
    return (
        f'<li class="card"{_render_data(row, shots)}>\n'
        f"{_render_pictures(row, shots)}\n"
        f'<div class="facts">\n'
        f'<p class="top"><span class="line">Line {row.line:,}</span> <bdi class="state">{escape(row.state)}</bdi></p>\n'
        f'<p class="prompt" dir="auto">{escape(_name_prompt(row, _LONGEST_PROMPT))}</p>\n'
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
    alt = escape(f"Line {row.line:,}{of}: {_name_prompt(row, _LONGEST_ALT)}")
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
