"""Strangers' words for a cell of a table that a spreadsheet opens."""

from contracts.visible_text import escape_controls

_FORMULAS = ("=", "+", "-", "@", "\t", "\r")


def defuse(text: str | None) -> str | None:
    """A text on one line, and none that a spreadsheet or a terminal would carry out."""
    told = escape_controls(" ".join(text.split())) if text else text
    return f"'{told}" if told and told.startswith(_FORMULAS) else told
