"""Parse the provider's JSON into values that can be stored in UTF-8 and in PostgreSQL."""

import json
import math
from typing import Any, NoReturn


def read_json(body: bytes) -> Any:
    """Parse a body. Numbers are finite, and strings can be stored in UTF-8 and in PostgreSQL.

    Raises:
        ValueError: it is not JSON, or not standard JSON (NaN, Infinity, nested too deeply).
    """
    try:
        return _make_storable(json.loads(body, parse_constant=_refuse_constant, parse_float=_read_float))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def make_text_storable(text: str) -> str:
    """Replace what databases reject (lone surrogates and NUL characters) by "?"."""
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
    raise ValueError(f"{name} is not a JSON number")


def _read_float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is too large a number")
    return number
