"""What is asked of the organisation's endpoints: the query, read as strictly as the provider does. Knows no entry."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aiohttp import web

from simulator.errors import ApiError, refuse
from simulator.headers import check_key, read_key

_ADMIN_KEY = "sk-admin-"
_PAGE = "page_"
_LARGEST_TIME = 253_402_300_799  # the last second of the year 9999


@dataclass(frozen=True)
class Width:
    """A width of buckets: its seconds, and how many an answer has by default and at most."""

    seconds: int
    default_limit: int
    largest_limit: int


@dataclass(frozen=True)
class Endpoint:
    """What an endpoint takes. `filters` are its parameters by the field that each narrows down."""

    widths: Mapping[str, Width]
    group_by: Sequence[str]
    filters: Mapping[str, str]


@dataclass(frozen=True)
class Query:
    """One question. `start` and `end` are Unix seconds; `first` is the first bucket of this page."""

    start: int
    end: int
    first: int
    width_seconds: int
    limit: int
    group_by: tuple[str, ...]
    wanted: Mapping[str, frozenset[str]]


def check_admin_key(request: web.Request) -> None:
    """Whether the key is an admin's: it starts with "sk-admin-".

    Raises:
        ApiError: 401 without a sound key, 403 with one that is no admin's.
    """
    check_key(request)
    if not read_key(request).startswith(_ADMIN_KEY):
        message = "You have insufficient permissions for this operation. Missing scopes: api.usage.read."
        raise ApiError(403, message, code="missing_scope")


def read_query(request: web.Request, endpoint: Endpoint) -> Query:
    """The question that a request asks.

    Raises:
        ApiError: 400, for the first parameter that is unknown or has a value that it does not take.
    """
    given = _collect(request)
    known = {"start_time", "end_time", "bucket_width", "group_by", "limit", "page", *endpoint.filters}
    for name in given.keys() - known:
        raise refuse(name, "unknown_parameter", f"Unknown parameter: '{name}'.")
    width = _choose(given, "bucket_width", endpoint.widths, "1d")
    start = _read_time(given, "start_time", None)
    end = _read_time(given, "end_time", int(time.time()) + 1)
    if end <= start:
        raise refuse("end_time", "invalid_value", "Invalid 'end_time': it must be after 'start_time'.")
    seconds = endpoint.widths[width].seconds
    return Query(
        start=start,
        end=end,
        first=_read_page(given, start - start % seconds),
        width_seconds=seconds,
        limit=_read_limit(given, endpoint.widths[width]),
        group_by=_read_groups(given, endpoint.group_by),
        wanted={field: frozenset(given[name]) for name, field in endpoint.filters.items() if name in given},
    )


def write_page(first: int) -> str:
    """The cursor of the page whose first bucket starts then."""
    return f"{_PAGE}{first}"


def _collect(request: web.Request) -> dict[str, list[str]]:
    """The values by parameter; a list is written as `name=a&name=b` or as `name[]=a&name[]=b`."""
    given: dict[str, list[str]] = {}
    for name, value in request.query.items():
        given.setdefault(name.removesuffix("[]"), []).append(value)
    return given


def _only(given: Mapping[str, list[str]], name: str) -> str | None:
    values = given.get(name, [])
    if len(values) > 1:
        raise refuse(name, "invalid_type", f"Invalid type for '{name}': expected one value.")
    return values[0] if values else None


def _choose(given: Mapping[str, list[str]], name: str, allowed: Mapping[str, Width], default: str) -> str:
    value = _only(given, name) or default
    if value not in allowed:
        raise refuse(name, "invalid_value", f"Invalid '{name}': expected one of {', '.join(allowed)}.")
    return value


def _read_time(given: Mapping[str, list[str]], name: str, default: int | None) -> int:
    text = _only(given, name)
    if text is None and default is None:
        raise refuse(name, "missing_required_parameter", f"Missing required parameter: '{name}'.")
    return _read_number(name, text, largest=_LARGEST_TIME) if text is not None else default or 0


def _read_limit(given: Mapping[str, list[str]], width: Width) -> int:
    text = _only(given, "limit")
    return width.default_limit if text is None else _read_number("limit", text, largest=width.largest_limit)


def _read_number(name: str, text: str, *, largest: int) -> int:
    digits = len(str(largest))
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= digits else 0
    if not 1 <= number <= largest:
        raise refuse(name, "invalid_value", f"Invalid '{name}': expected an integer between 1 and {largest}.")
    return number


def _read_groups(given: Mapping[str, list[str]], allowed: Sequence[str]) -> tuple[str, ...]:
    groups = tuple(given.get("group_by", ()))
    for group in groups:
        if group not in allowed:
            raise refuse(
                "group_by", "invalid_value", f"Invalid 'group_by': expected any of {', '.join(allowed)}."
            )
    return groups


def _read_page(given: Mapping[str, list[str]], first: int) -> int:
    text = _only(given, "page")
    if text is None:
        return first
    if not text.startswith(_PAGE):
        raise refuse("page", "invalid_value", "Invalid 'page': expected the next_page of an answer.")
    return _read_number("page", text.removeprefix(_PAGE), largest=_LARGEST_TIME)
