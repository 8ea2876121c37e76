"""The provider's JSON, read so that whatever comes out of it can be stored and sent on. Knows no field by name."""

import json
import math
from typing import Any, NoReturn


def read_json(body: bytes) -> Any:
    """Parses a body. Numbers are finite, and texts can be held by UTF-8 and by PostgreSQL.

    Raises:
        ValueError: not JSON, or JSON that no standard parser takes (NaN, Infinity, nested without end).
    """
    try:
        return _make_storable(json.loads(body, parse_constant=_refuse_constant, parse_float=_read_float))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def make_text_storable(text: str) -> str:
    """The text without what databases refuse: halves of surrogate pairs and NUL characters become "?"."""
    if text.isascii() and "\0" not in text:
        return text
    return text.encode("utf-8", "replace").decode().replace("\0", "?")


def _make_storable(value: Any) -> Any:
    if isinstance(value, str):
        return make_text_storable(value)
    if isinstance(value, list):
        return [_make_storable(item) for item in value]
    if isinstance(value, dict):
        return {make_text_storable(name): _make_storable(item) for name, item in value.items()}
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _read_float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is too large a number")
    return number
