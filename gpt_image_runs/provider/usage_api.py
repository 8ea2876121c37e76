"""Read an organization's image requests and costs from OpenAI's Usage and Costs APIs.

Amounts are returned as decimal strings.
"""

import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from http import HTTPStatus
from typing import Any, ClassVar, NoReturn

import httpx2
import openai

from gpt_image_runs.contracts.provider_reconciliation import CostLine, ProviderDay, RequestCount
from gpt_image_runs.provider.body_limits import IDENTITY, MAX_JSON_BODY, BodyTooLarge, bounding
from gpt_image_runs.provider.error_mapping import read_error_body
from gpt_image_runs.provider.sdk import OPENAI_URL, hide_key

_KEY_HELP = "Set OPENAI_ADMIN_KEY to an admin key (sk-admin-...) of the organization that pays, and start the worker again."
_NO_SUCH_ADDRESS = (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED)
_LATER = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS)


class BooksFailure(Exception):
    """The provider's usage or costs cannot be read."""

    retryable: ClassVar[bool] = False


class BooksNotConfigured(BooksFailure):
    """A setting is missing or not valid."""


class BooksRefused(BooksFailure):
    """The provider denies access."""


class BooksUnavailable(BooksFailure):
    """The provider does not answer now."""

    retryable = True


class BooksUnreadable(BooksFailure):
    """The response is not one of an organization endpoint."""


def describe_refusal(status: int, body: bytes) -> BooksFailure:
    """Build the failure for a response other than 2xx. `body` must not contain the key."""
    said = read_error_body(body).message
    told = f"HTTP {status}: {said.rstrip('.')}" if said else f"HTTP {status}"
    if status == HTTPStatus.UNAUTHORIZED:
        return BooksRefused(f"The provider refuses the admin key ({told}). {_KEY_HELP}")
    if status == HTTPStatus.FORBIDDEN:
        return BooksRefused(f"The key may not read the organization's books ({told}). {_KEY_HELP}")
    if status in _NO_SUCH_ADDRESS:
        return BooksRefused(
            f"There are no organization endpoints at this address ({told}). Only OpenAI's own API has them: check"
            " OPENAI_BASE_URL."
        )
    if status in _LATER or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return BooksUnavailable(f"The provider's books cannot be read just now ({told}).")
    return BooksRefused(f"The provider refused to show its books ({told}).")


def describe_silence(error: openai.APIConnectionError) -> BooksFailure:
    """Build the failure for a missing response."""
    cause = type(error.__cause__ or error).__name__
    return BooksUnavailable(
        f"The provider's books cannot be reached ({cause}). Check the network and OPENAI_BASE_URL."
    )


_PICO_USD = Decimal(10) ** -12
_MAX_AMOUNT = 10**12
_UNNAMED = "unknown"


@dataclass(frozen=True)
class Page:
    """One response: its buckets and the name of the next page."""

    buckets: list[dict[str, Any]]
    next_page: str | None


def read_page(body: bytes) -> Page:
    """Parse a response of an organization endpoint.

    Raises:
        BooksUnreadable: it is not one.
    """
    try:
        page = json.loads(body, parse_float=Decimal, parse_constant=_refuse_constant)
        has_more = page["has_more"]
        next_page = page["next_page"] if has_more else None
        buckets = [dict(bucket) for bucket in page["data"]]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise _unreadable("the response is not a page of buckets") from error
    if has_more and not (isinstance(next_page, str) and next_page):
        raise _unreadable("more pages follow, but the next one has no name")
    return Page(buckets, next_page)


def read_counts(page: Page) -> Iterator[RequestCount]:
    """Yield the counts of a page of image usage, grouped by model.

    Raises:
        BooksUnreadable: a bucket or a result is not valid.
    """
    for start, result in _list_results(page):
        yield RequestCount(
            start=start,
            model=str(result.get("model") or _UNNAMED),
            requests=_read_count(result, "num_model_requests"),
            images=_read_count(result, "images"),
        )


def read_costs(page: Page) -> Iterator[CostLine]:
    """Yield the lines of a page of costs, grouped by line item.

    Raises:
        BooksUnreadable: a bucket or a result is not valid, or not in USD.
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
        raise _unreadable(f"{name} that is not a count")
    return count


def _read_amount(value: Any) -> str:
    """Parse an amount to a decimal string with 6 to 12 places. Zero has been seen as "0E-6176"."""
    try:
        amount = Decimal(str(value))
        if not abs(amount) <= _MAX_AMOUNT:
            raise _unreadable(f"an amount of {str(value)[:40]}")
        text = f"{amount.quantize(_PICO_USD):f}"
    except (InvalidOperation, ValueError) as error:
        raise _unreadable(f"an amount of {str(value)[:40]}") from error
    whole, _, places = text.partition(".")
    return f"{whole}.{places.rstrip('0').ljust(6, '0')}"


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _unreadable(what: str) -> BooksUnreadable:
    return BooksUnreadable(
        f"The provider's books cannot be read: {what}. Check that OPENAI_BASE_URL is OpenAI's own API."
    )


_MINUTES_IN_A_PAGE = 1440
_SECONDS_IN_A_DAY = 86_400
# Far more than a day has; limits a server that names another page forever.
_MAX_PAGES = 100
# An admin key belongs to no project. The SDK would send the one in the environment, which is our filter.
_WITHOUT_PROJECT = {"OpenAI-Project": openai.omit}
_PATIENCE = httpx2.Timeout(60.0, connect=5.0)

_Ask = Callable[..., Awaitable[Any]]


@dataclass(frozen=True, kw_only=True)
class BooksSettings:
    """Where to read: OpenAI's organization endpoints at `base_url` or at OpenAI, with an admin key."""

    admin_key: str | None = field(repr=False)
    base_url: str | None = None
    is_azure: bool = False


class ProviderBooks:
    """Reads an organization's usage and costs. Opens a connection for each day, because days are rarely read."""

    def __init__(self, settings: BooksSettings) -> None:
        self._settings = settings

    async def read_day(
        self,
        day: date,
        since: datetime,
        until: datetime,
        *,
        project_id: str | None,
        api_key_id: str | None,
    ) -> ProviderDay:
        """Read the requests counted from `since` until before `until`, and the costs of `day` (UTC).

        `project_id` and `api_key_id` filter both.

        Raises:
            BooksFailure: a sentence that says what to do; `retryable` says whether waiting may help.
        """
        key = self._check_settings()
        filters = {
            name: [value]
            for name, value in (("project_ids", project_id), ("api_key_ids", api_key_id))
            if value
        }
        midnight = int(datetime.combine(day, time(), UTC).timestamp())
        async with _open_sdk(key, self._settings.base_url) as sdk:
            usage = sdk.admin.organization.usage.with_raw_response
            counts = await _read_pages(
                usage.images,
                key,
                start_time=int(since.timestamp()),
                end_time=int(until.timestamp()),
                bucket_width="1m",
                group_by=["model"],
                limit=_MINUTES_IN_A_PAGE,
                **filters,
            )
            costs = await _read_pages(
                usage.costs,
                key,
                start_time=midnight,
                end_time=midnight + _SECONDS_IN_A_DAY,
                group_by=["line_item"],
                limit=1,
                **filters,
            )
        return ProviderDay(
            counts=tuple(count for page in counts for count in read_counts(page)),
            lines=tuple(line for page in costs for line in read_costs(page)),
        )

    def _check_settings(self) -> str:
        if self._settings.is_azure:
            raise BooksNotConfigured(
                "Azure has no organization endpoints: its costs are in Azure's own cost management. Only OpenAI's own"
                " books can be compared."
            )
        key = (self._settings.admin_key or "").strip()
        if not key:
            raise BooksNotConfigured(
                "There is no admin key to read the provider's books with: set OPENAI_ADMIN_KEY for the worker"
                " (an owner of the organization makes one under Settings, Admin keys), and start it again."
            )
        if not (key.isascii() and key.isprintable() and " " not in key):
            raise BooksNotConfigured(
                "OPENAI_ADMIN_KEY contains a space or a character that keys do not have; copy it again."
            )
        return key


def _open_sdk(key: str, base_url: str | None) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(
        # Not the key that makes pictures: the SDK would take one from the environment.
        api_key="",
        admin_api_key=key,
        base_url=base_url or OPENAI_URL,
        # Temporal tries again, where everyone sees it.
        max_retries=0,
        http_client=httpx2.AsyncClient(
            timeout=_PATIENCE,
            follow_redirects=False,
            headers=IDENTITY,
            event_hooks={"response": [bounding(lambda _: False)]},
        ),
        timeout=_PATIENCE,
    )


async def _read_pages(ask: _Ask, key: str, **question: Any) -> list[Page]:
    pages: list[Page] = []
    cursor: Mapping[str, str] = {}
    size = 0
    while len(pages) < _MAX_PAGES:
        body = await _ask(ask, key, {**question, **cursor})
        size += len(body)
        if size > MAX_JSON_BODY:
            raise _describe_too_large()
        page = read_page(body)
        pages.append(page)
        if page.next_page is None:
            return pages
        cursor = {"page": page.next_page}
    raise BooksUnreadable(
        f"The provider's books have more than {_MAX_PAGES} pages for a day: something else answers."
    )


async def _ask(ask: _Ask, key: str, question: Mapping[str, Any]) -> bytes:
    failure: BooksFailure
    try:
        raw = await ask(**question, extra_headers=_WITHOUT_PROJECT)
    except openai.APIStatusError as error:
        body = hide_key(error.response.content, key, b"[admin key]")
        failure = describe_refusal(error.status_code, body)
    except openai.APIConnectionError as error:
        failure = describe_silence(error)
    except BodyTooLarge:
        failure = _describe_too_large()
    else:
        content: bytes = raw.http_response.content
        return hide_key(content, key, b"[admin key]")
    # Outside of the except clauses, so that the SDK's error, which may quote the key, is not its context.
    raise failure


def _describe_too_large() -> BooksUnreadable:
    return BooksUnreadable(
        f"The provider's books have more than {MAX_JSON_BODY:,} bytes for a day: something else answers."
    )
