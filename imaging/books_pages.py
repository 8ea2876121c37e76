"""What the pages of the organization endpoints say. Numbers that are money are never read as floats."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, NoReturn

from contracts.comparison import CostLine, RequestCount
from imaging.books_errors import BooksUnreadable

_PICO_USD = Decimal(10) ** -12
_LARGEST_AMOUNT = 10**12
_UNNAMED = "unknown"


@dataclass(frozen=True)
class Page:
    """One answer: its buckets, and the page that follows."""

    buckets: list[dict[str, Any]]
    next_page: str | None


def read_page(body: bytes) -> Page:
    """An answer of an organization endpoint.

    Raises:
        BooksUnreadable: it is none.
    """
    try:
        page = json.loads(body, parse_float=Decimal, parse_constant=_refuse_constant)
        has_more = page["has_more"]
        next_page = page["next_page"] if has_more else None
        buckets = [dict(bucket) for bucket in page["data"]]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise _unreadable("no page of buckets") from error
    if has_more and not (isinstance(next_page, str) and next_page):
        raise _unreadable("a page that is to be followed by one without a name")
    return Page(buckets, next_page)


def read_counts(page: Page) -> Iterator[RequestCount]:
    """The counts of a page of image usage, grouped by model.

    Raises:
        BooksUnreadable: a bucket or a result is none.
    """
    for start, result in _list_results(page):
        yield RequestCount(
            start=start,
            model=str(result.get("model") or _UNNAMED),
            requests=_read_count(result, "num_model_requests"),
            images=_read_count(result, "images"),
        )


def read_costs(page: Page) -> Iterator[CostLine]:
    """The lines of a page of costs, grouped by line item.

    Raises:
        BooksUnreadable: a bucket or a result is none, or not in USD.
    """
    for _, result in _list_results(page):
        amount = result.get("amount")
        if not isinstance(amount, dict):
            raise _unreadable("a cost without an amount")
        currency = str(amount.get("currency") or "usd").lower()
        if currency != "usd":
            raise _unreadable(f"costs in {currency[:20]}, and this ledger is kept in USD")
        yield CostLine(
            line_item=str(result.get("line_item") or _UNNAMED), amount_usd=_read_amount(amount.get("value"))
        )


def _list_results(page: Page) -> Iterator[tuple[datetime, dict[str, Any]]]:
    for bucket in page.buckets:
        try:
            start = datetime.fromtimestamp(bucket["start_time"], UTC)
            results = [dict(result) for result in bucket["results"]]
        except (ValueError, TypeError, KeyError, OverflowError, OSError) as error:
            raise _unreadable("a bucket without its start or its results") from error
        for result in results:
            yield start, result


def _read_count(result: dict[str, Any], name: str) -> int:
    count = result.get(name)
    if not isinstance(count, int) or isinstance(count, bool) or count < 0:
        raise _unreadable(f"{name} that is no count")
    return count


def _read_amount(value: Any) -> str:
    """An amount as a decimal string with 6 to 12 places. Texts such as "0E-6176" have been seen for zero."""
    try:
        amount = Decimal(str(value))
        if not abs(amount) <= _LARGEST_AMOUNT:
            raise _unreadable(f"an amount of {str(value)[:40]}")
        text = f"{amount.quantize(_PICO_USD):f}"
    except (InvalidOperation, ValueError) as error:
        raise _unreadable(f"an amount of {str(value)[:40]}") from error
    whole, _, places = text.partition(".")
    return f"{whole}.{places.rstrip('0').ljust(6, '0')}"


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _unreadable(what: str) -> BooksUnreadable:
    return BooksUnreadable(
        f"The provider's books cannot be read: {what}. Check that OPENAI_BASE_URL is OpenAI's own API."
    )
