"""Serve the organization's usage and costs endpoints from the books, for admin keys.

GET /v1/organization/usage/images counts paid requests and images, GET /v1/organization/costs adds up money by day.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from simulator.http import ApiError, check_key, read_key, refuse
from simulator.models import MODELS
from simulator.request_log import BookEntry, Books
from simulator.tokens import price_by_class, read_usage

_ADMIN_KEY = "sk-admin-"
_PAGE = "page_"
_MAX_TIME = 253_402_300_799  # the last second of the year 9999


@dataclass(frozen=True)
class Width:
    """A bucket width in seconds, with the default and maximum number of buckets in a response."""

    seconds: int
    default_limit: int
    max_limit: int


@dataclass(frozen=True)
class Endpoint:
    """The parameters of an endpoint. `filters` maps each filter parameter to the field that it filters."""

    widths: Mapping[str, Width]
    group_by: Sequence[str]
    filters: Mapping[str, str]


@dataclass(frozen=True)
class Query:
    """One query. `start` and `end` are Unix seconds; `first` is the first bucket of this page."""

    start: int
    end: int
    first: int
    width_seconds: int
    limit: int
    group_by: tuple[str, ...]
    wanted: Mapping[str, frozenset[str]]


def check_admin_key(request: web.Request) -> None:
    """Check that the key is an admin key, which starts with "sk-admin-".

    Raises:
        ApiError: 401 without a valid key, 403 with one that is not an admin key.
    """
    check_key(request)
    if not read_key(request).startswith(_ADMIN_KEY):
        message = "You have insufficient permissions for this operation. Missing scopes: api.usage.read."
        raise ApiError(403, message, code="missing_scope")


def read_query(request: web.Request, endpoint: Endpoint) -> Query:
    """Parse the query of a request.

    Raises:
        ApiError: 400, for the first parameter that is unknown or has a value that is not valid.
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


def format_page(first: int) -> str:
    """Format the cursor of the page whose first bucket starts at `first`."""
    return f"{_PAGE}{first}"


def _collect(request: web.Request) -> dict[str, list[str]]:
    """Collect the values by parameter. A list is `name=a&name=b` or `name[]=a&name[]=b`."""
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
    return _read_number(name, text, largest=_MAX_TIME) if text is not None else default or 0


def _read_limit(given: Mapping[str, list[str]], width: Width) -> int:
    text = _only(given, "limit")
    return width.default_limit if text is None else _read_number("limit", text, largest=width.max_limit)


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
        raise refuse("page", "invalid_value", "Invalid 'page': expected the next_page of a response.")
    return _read_number("page", text.removeprefix(_PAGE), largest=_MAX_TIME)


Describe = Callable[[Counter[str], Query], dict[str, Any]]

_DAY = 86_400
_NANO_USD_PER_USD = 10**9
_SOURCES = {"generations": "image.generation", "edits": "image.edit"}

_USAGE = Endpoint(
    widths={"1m": Width(60, 60, 1440), "1h": Width(3600, 24, 168), "1d": Width(_DAY, 7, 31)},
    group_by=("project_id", "user_id", "api_key_id", "model", "size", "source"),
    filters={
        "project_ids": "project_id",
        "user_ids": "user_id",
        "api_key_ids": "api_key_id",
        "models": "model",
        "sizes": "size",
        "sources": "source",
    },
)
_COSTS = Endpoint(
    widths={"1d": Width(_DAY, 7, 180)},
    group_by=("project_id", "user_id", "line_item", "api_key_id", "api_source"),
    filters={"project_ids": "project_id", "api_key_ids": "api_key_id", "line_items": "line_item"},
)


@dataclass(frozen=True)
class _Row:
    """One event: its labels, and the amounts that are added up."""

    time: int
    labels: Mapping[str, str | None]
    amounts: Mapping[str, int]


class OrganizationHandlers:
    """Handlers of the usage and costs endpoints."""

    def __init__(self, books: Books) -> None:
        self._books = books

    async def show_image_usage(self, request: web.Request) -> web.Response:
        """Handle GET /v1/organization/usage/images."""
        check_admin_key(request)
        query = read_query(request, _USAGE)
        return _answer(query, map(_count, self._books.paid), _USAGE, _describe_usage)

    async def show_costs(self, request: web.Request) -> web.Response:
        """Handle GET /v1/organization/costs."""
        check_admin_key(request)
        query = read_query(request, _COSTS)
        rows = (row for entry in self._books.paid for row in _itemize(entry))
        return _answer(query, rows, _COSTS, _describe_cost)


def _labels(entry: BookEntry) -> dict[str, str | None]:
    return {"project_id": entry.project_id, "api_key_id": entry.api_key_id, "user_id": None}


def _count(entry: BookEntry) -> _Row:
    labels = {**_labels(entry), "model": entry.model, "size": entry.size, "source": _SOURCES[entry.endpoint]}
    return _Row(int(entry.time.timestamp()), labels, {"requests": 1, "images": entry.n or 0})


def _itemize(entry: BookEntry) -> Iterator[_Row]:
    """Yield a row for each token class with its exact price. Only the sum of a day is rounded."""
    model, usage = entry.model or "", read_usage(entry.usage or {})
    in_batch = entry.batch_id is not None
    prices = price_by_class(MODELS[model].family, usage, in_batch=in_batch)
    kind = "batch " if in_batch else ""
    for token_class, nano_usd in prices._asdict().items():
        tokens = getattr(usage, token_class)
        if tokens:
            labels = {
                **_labels(entry),
                "line_item": f"{model}, {kind}{token_class}",
                "api_source": "unlabeled",
            }
            yield _Row(int(entry.time.timestamp()), labels, {"nano_usd": nano_usd, "tokens": tokens})


def _answer(query: Query, rows: Iterable[_Row], endpoint: Endpoint, describe: Describe) -> web.Response:
    wanted = [row for row in rows if _is_wanted(row, query)]
    width = query.width_seconds
    # There are no buckets for the future.
    starts = range(query.first, min(query.end, int(time.time()) + 1), width)
    shown, has_more = starts[: query.limit], len(starts) > query.limit
    by_start: dict[int, list[_Row]] = {start: [] for start in shown}
    for row in wanted:
        by_start.get(row.time - row.time % width, []).append(row)
    buckets = [
        {
            "object": "bucket",
            "start_time": start,
            "end_time": start + width,
            "results": [
                {**dict.fromkeys(endpoint.group_by), **labels, **describe(amounts, query)}
                for labels, amounts in _sum_groups(inside, query.group_by)
            ],
        }
        for start, inside in by_start.items()
    ]
    page = {
        "object": "page",
        "data": buckets,
        "has_more": has_more,
        "next_page": format_page(starts[query.limit]) if has_more else None,
    }
    return web.json_response(page, headers={"x-simulated": "true"})


def _is_wanted(row: _Row, query: Query) -> bool:
    inside = query.start <= row.time < query.end
    return inside and all(row.labels[field] in values for field, values in query.wanted.items())


def _sum_groups(
    rows: list[_Row], group_by: tuple[str, ...]
) -> Iterator[tuple[dict[str, str | None], Counter[str]]]:
    sums: dict[tuple[str | None, ...], Counter[str]] = {}
    for row in rows:
        key = tuple(row.labels[name] for name in group_by)
        sums.setdefault(key, Counter()).update(row.amounts)
    for key, amounts in sums.items():
        yield dict(zip(group_by, key, strict=True)), amounts


def _describe_usage(amounts: Counter[str], _query: Query) -> dict[str, Any]:
    return {
        "object": "organization.usage.images.result",
        "images": amounts["images"],
        "num_model_requests": amounts["requests"],
    }


def _describe_cost(amounts: Counter[str], query: Query) -> dict[str, Any]:
    by_line = "line_item" in query.group_by
    return {
        "object": "organization.costs.result",
        "amount": {"value": amounts["nano_usd"] / _NANO_USD_PER_USD, "currency": "usd"},
        "quantity": amounts["tokens"] if by_line else None,
        "quantity_unit": "tokens" if by_line else None,
    }
