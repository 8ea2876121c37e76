"""Strangers' texts for a page of HTML: nothing in them is markup, and what no page may hold is shown as U+FFFD."""

import html
import re

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
