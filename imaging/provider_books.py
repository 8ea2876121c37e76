"""The provider's own books of an organization: how many image requests it counts, and what its bill says. Read only.

Amounts are passed on as they are told, as texts of decimal numbers: what they mean is no business of this room.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from typing import Any

import httpx2
import openai

from contracts.comparison import ProviderDay
from imaging.body_limits import IDENTITY, MAX_JSON_BODY, BodyTooLarge, bounding
from imaging.books_errors import (
    BooksFailure,
    BooksNotConfigured,
    BooksUnreadable,
    describe_refusal,
    describe_silence,
)
from imaging.books_pages import Page, read_costs, read_counts, read_page
from imaging.provider_settings import OPENAI_URL
from imaging.sdk import hide_key

_MINUTES_IN_A_PAGE = 1440
_SECONDS_IN_A_DAY = 86_400
_MOST_PAGES = 100
"""Far more than a day has; a provider that names pages without end is not asked for ever."""
_WITHOUT_PROJECT = {"OpenAI-Project": openai.omit}
"""An admin key belongs to no project: the SDK would name the one in the environment, which is our filter."""
_PATIENCE = httpx2.Timeout(60.0, connect=5.0)

_Ask = Callable[..., Awaitable[Any]]


@dataclass(frozen=True, kw_only=True)
class BooksSettings:
    """Whose books are read: OpenAI's organization endpoints at `base_url` or at OpenAI, with an organization's admin key."""

    admin_key: str | None = field(repr=False)
    base_url: str | None = None
    is_azure: bool = False


class ProviderBooks:
    """Reads an organization's books. Opens a connection for each day that is read, as that happens once in a while."""

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
        """The requests that were counted from `since` until before `until`, and what the bill says of `day` (UTC).

        `project_id` and `api_key_id` narrow both down.

        Raises:
            BooksFailure: a sentence that says what to do; `retryable` tells whether waiting may help.
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
                "OPENAI_ADMIN_KEY holds a blank or a character that no key has: copy it again."
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
    while len(pages) < _MOST_PAGES:
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
        f"The provider's books have more than {_MOST_PAGES} pages for a day: something else answers."
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
