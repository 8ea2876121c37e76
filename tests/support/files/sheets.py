"""Rows of contact sheets and the pages that they make, for tests. No test here."""

import io
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from PIL import Image

from cli.contact_sheet.render import SheetRow
from gpt_image_runs.contracts.images import ImageRef
from gpt_image_runs.images.store import ImageStore

HOSTILE = (
    "</script></style></li></dl><script>document.title = 'owned'</script>"
    '<img src=x onerror="document.title = 1"> "quoted\' & $title ${js} $cards &lt;'
    " \u202eesrever\u2066 \x00\x1b[31m \ud800 \r\n end"
)


async def put_picture(
    store: ImageStore, color: str, size: tuple[int, int] = (64, 32), mode: str = "RGB"
) -> ImageRef:
    """Store an image of one color."""
    encoded = io.BytesIO()
    Image.new(mode, size, color).save(encoded, "PNG")
    return await store.put_image(encoded.getvalue())


def make_row(line: int = 1, *pictures: ImageRef, **fields: Any) -> SheetRow:
    """Make a row that is done and billed, apart from `fields`."""
    usual: dict[str, Any] = {
        "run_id": f"image:acme:line-{line}",
        "prompt": f"A lighthouse, number {line}",
        "model": "gpt-image-2",
        "size": None,
        "quality": "high",
        "state": "done",
        "billing_state": "billed",
        "charge_usd": "0.166900",
        "error": None,
    }
    return SheetRow(line=line, pictures=pictures, **(usual | fields))


class ReadPage(HTMLParser):
    """A page as a parser sees it: every element with its attributes, and every text by the class that is nearest."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        """Return all text of the page, its style and script included."""
        return "".join(self.texts)

    def count(self, tag: str) -> int:
        """Count an element."""
        return sum(name == tag for name, _ in self.elements)
