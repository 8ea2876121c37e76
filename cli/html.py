"""A page's files made one: the HTML with its style and its script inside, under a policy that allows exactly these.

A page asks for nothing: the Content-Security-Policy allows its own style, its own script and embedded pictures, and nothing
else: no connection, no frame, no form, and no script that a stranger's text could smuggle in.
"""

import hashlib
import html
import re
from base64 import b64encode
from pathlib import Path
from string import Template

_BASE = Path(__file__).parent / "templates" / "base" / "base.css"
"""What all pages look like: colours by light and dark, paper, the head with its totals."""


class PageFiles:
    """The files of one page: `page.html` with `$names` in it, `page.css`, and `page.js` where it has a script."""

    def __init__(self, folder: Path) -> None:
        self._html = _read(folder / "page.html")
        self._css = _read(_BASE) + _read(folder / "page.css")
        script = folder / "page.js"
        self._js = _read(script) if script.exists() else ""

    def render(self, values: dict[str, str], *, gap: str | None = None) -> tuple[str, str]:
        """The HTML before and after `gap`, a `$name` that is filled by the caller; without one, all of it comes before.

        The values are markup: a stranger's text goes through `cli.html.escape` first.
        """
        before, _, after = self._html.partition(gap) if gap else (self._html, "", "")
        known = {**values, "policy": self._make_policy(), "css": self._css, "js": self._js}
        return Template(before).substitute(known), Template(after).substitute(known)

    def _make_policy(self) -> str:
        script = f"'{_hash(self._js)}'" if self._js else "'none'"
        return (
            f"default-src 'none'; img-src data:; style-src '{_hash(self._css)}'; script-src {script};"
            " base-uri 'none'; form-action 'none'"
        )


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _hash(source: str) -> str:
    return f"sha256-{b64encode(hashlib.sha256(source.encode()).digest()).decode()}"


# Controls, halves of surrogate pairs and noncharacters: a parser drops or replaces them, and UTF-8 cannot hold the halves.
_UNSPEAKABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
_READ_TO_SHORTEN = 8
"""White space is folded away; nobody reads all of 32,000 characters to show 200 of them."""


def escape(text: str) -> str:
    """A text for the inside of an element or of an attribute in double quotes."""
    return html.escape(_UNSPEAKABLE.sub("\ufffd", text.replace("\r\n", "\n").replace("\r", "\n")))


def shorten(text: str, most: int) -> str:
    """The beginning of a text on one line, `most` characters at most; not escaped."""
    line = " ".join(text[: most * _READ_TO_SHORTEN].split())
    if len(line) <= most and len(text) <= most * _READ_TO_SHORTEN:
        return line
    return line[: most - 1].rstrip() + "…"
