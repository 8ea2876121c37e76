"""The organisation's endpoints: how often images were made and what they cost, summed up from the books for an admin.

GET /v1/organization/usage/images counts paid requests and pictures, GET /v1/organization/costs adds up money by day.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from simulator.books import BookEntry, Books
from simulator.models import MODELS
from simulator.organization_queries import Endpoint, Query, Width, check_admin_key, read_query, write_page
from simulator.prices import price_by_class
from simulator.tokens import read_usage

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
    """Something that happened: its labels, and the amounts that are added up."""

    time: int
    labels: Mapping[str, str | None]
    amounts: Mapping[str, int]


class OrganizationHandlers:
    """Answers an admin's questions from the books alone."""

    def __init__(self, books: Books) -> None:
        self._books = books

    async def show_image_usage(self, request: web.Request) -> web.Response:
        """GET /v1/organization/usage/images."""
        check_admin_key(request)
        query = read_query(request, _USAGE)
        return _answer(query, map(_count, self._books.paid), _USAGE, _describe_usage)

    async def show_costs(self, request: web.Request) -> web.Response:
        """GET /v1/organization/costs."""
        check_admin_key(request)
        query = read_query(request, _COSTS)
        rows = (row for entry in self._books.paid for row in _itemise(entry))
        return _answer(query, rows, _COSTS, _describe_cost)


def _labels(entry: BookEntry) -> dict[str, str | None]:
    return {"project_id": entry.project_id, "api_key_id": entry.api_key_id, "user_id": None}


def _count(entry: BookEntry) -> _Row:
    labels = {**_labels(entry), "model": entry.model, "size": entry.size, "source": _SOURCES[entry.endpoint]}
    return _Row(int(entry.time.timestamp()), labels, {"requests": 1, "images": entry.n or 0})


def _itemise(entry: BookEntry) -> Iterator[_Row]:
    """A row for each class of tokens: its exact price, of which only the sum of a day is ever rounded."""
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
    # The future has no buckets yet.
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
        "next_page": write_page(starts[query.limit]) if has_more else None,
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
