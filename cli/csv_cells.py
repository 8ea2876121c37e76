"""Strangers' words for a cell of a table that a spreadsheet opens."""

_FORMULAS = ("=", "+", "-", "@", "\t", "\r")


def defuse(text: str | None) -> str | None:
    """A text on one line, and none that a spreadsheet would carry out."""
    told = " ".join(text.split()) if text else text
    return f"'{told}" if told and told.startswith(_FORMULAS) else told
