"""Untrusted text made safe to show: control characters and direction marks are written as escapes."""

import re

# C0 without tab and line end, DEL, C1, halves of surrogate pairs, line and paragraph separators, tag characters, and what
# sets the direction of the text after it.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\U000e0000-\U000e007f]"
)


def escape_controls(text: str) -> str:
    r"""Write control characters and direction marks as escapes, such as \x1b; tabs and line ends stay."""
    return _UNSAFE.sub(_escape, text) if not (text.isascii() and text.isprintable()) else text


def _escape(found: re.Match[str]) -> str:
    return (
        found[0].encode("ascii", "backslashreplace").decode()
        if found[0] > "\x7f"
        else f"\\x{ord(found[0]):02x}"
    )
