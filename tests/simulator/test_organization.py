"""The organization's endpoints, called by the real SDK with an admin key: counts by bucket, money by day, strict queries."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import httpx2
import pytest
from openai import APIStatusError, AsyncOpenAI

from simulator.request_log import BookEntry
from simulator.server import Simulator

NOW = datetime.now(UTC).replace(microsecond=0)
YESTERDAY = NOW.replace(hour=0, minute=0, second=0) - timedelta(days=1)
START = int(YESTERDAY.timestamp())
TEN_PAST_NINE = YESTERDAY + timedelta(hours=9, minutes=10)
DAY = 86_400


def note(simulator: Simulator, at: datetime, *, model: str = "gpt-image-1", **changes: Any) -> None:
    """Record a paid image of 50 text tokens and 4160 image tokens."""
    entry = {
        "time": at,
        "request_id": f"req_{len(simulator.books.entries)}",
        "client_request_id": None,
        "client_request_id_repeated": False,
        "project_id": "proj_simulator",
        "api_key_id": "key_1",
        "endpoint": "generations",
        "model": model,
        "size": "1024x1024",
        "n": 1,
        "paid": True,
        "status": 200,
        "usage": {
            "input_tokens": 50,
            "input_tokens_details": {"text_tokens": 50, "image_tokens": 0},
            "output_tokens": 4160,
            "total_tokens": 4210,
        },
        **changes,
    }
    simulator.books.record(BookEntry.model_validate(entry))


@pytest.fixture
async def admin(simulator: Simulator) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(
        base_url=simulator.base_url, api_key="", admin_api_key="sk-admin-test", max_retries=0
    ) as sdk:
        yield sdk


async def test_usage_counts_paid_requests_by_minute_model_and_source(
    simulator: Simulator, admin: AsyncOpenAI
) -> None:
    note(simulator, TEN_PAST_NINE)
    note(simulator, TEN_PAST_NINE + timedelta(seconds=59), endpoint="edits", n=3)
    note(simulator, TEN_PAST_NINE + timedelta(seconds=60), model="gpt-image-2")
    note(simulator, TEN_PAST_NINE, paid=False, status=503, usage=None)
    page = await admin.admin.organization.usage.images(
        start_time=START + 9 * 3600,
        end_time=START + 10 * 3600,
        bucket_width="1m",
        group_by=["model", "source"],
    )
    counted = {
        (bucket.start_time - START, result.model, result.source): (result.num_model_requests, result.images)
        for bucket in page.data
        for result in bucket.results
        if result.object == "organization.usage.images.result"
    }

    assert counted == {
        (33_000, "gpt-image-1", "image.generation"): (1, 1),
        (33_000, "gpt-image-1", "image.edit"): (1, 3),
        (33_060, "gpt-image-2", "image.generation"): (1, 1),
    }
    assert [len(page.data), page.has_more, page.next_page] == [60, False, None]
    assert {bucket.end_time - bucket.start_time for bucket in page.data} == {60}


async def test_usage_and_costs_of_a_key_contain_only_its_requests(
    simulator: Simulator, client: AsyncOpenAI, admin: AsyncOpenAI
) -> None:
    await client.images.generate(model="gpt-image-1", prompt="abcd", quality="low", n=2)
    [entry] = simulator.books.entries
    start = int(entry.time.timestamp())
    mine, others = [entry.api_key_id or ""], ["key_of_another"]
    usage, costs = admin.admin.organization.usage.images, admin.admin.organization.usage.costs

    [counted] = (await usage(start_time=start, end_time=start + 60, api_key_ids=mine)).data[0].results
    assert counted.object == "organization.usage.images.result"
    assert (counted.images, counted.num_model_requests, counted.model) == (2, 1, None)
    [cost] = (await costs(start_time=start, end_time=start + 60, api_key_ids=mine)).data[0].results
    assert cost.object == "organization.costs.result"
    assert cost.amount is not None
    assert (cost.amount.value, cost.amount.currency) == (0.02183, "usd")  # 14 * 5 + 544 * 40 micro-USD
    assert (await usage(start_time=start, api_key_ids=others)).data[0].results == []
    assert (await costs(start_time=start, api_key_ids=others)).data[0].results == []


async def test_costs_by_line_item_are_exact_over_many_requests(
    simulator: Simulator, admin: AsyncOpenAI
) -> None:
    for _ in range(3):
        note(simulator, TEN_PAST_NINE, model="gpt-image-1-mini")
    page = await admin.admin.organization.usage.costs(
        start_time=START, end_time=START + DAY, group_by=["line_item"]
    )
    [bucket] = page.data
    lines = {
        result.line_item: (result.amount.value, result.quantity, result.quantity_unit)
        for result in bucket.results
        if result.object == "organization.costs.result" and result.amount
    }

    assert lines == {
        "gpt-image-1-mini, text_in": (0.0003, 150, "tokens"),  # 3 * 50 * 2 micro-USD
        "gpt-image-1-mini, image_out": (0.09984, 12_480, "tokens"),  # 3 * 4160 * 8 micro-USD
    }


async def test_usage_pages_cover_a_day_of_minutes_without_gaps(
    simulator: Simulator, admin: AsyncOpenAI
) -> None:
    begin = START - DAY
    note(simulator, YESTERDAY - timedelta(days=1))
    note(simulator, YESTERDAY)
    ask = partial(
        admin.admin.organization.usage.images,
        start_time=begin,
        end_time=begin + 1500 * 60,
        bucket_width="1m",
        limit=1440,
    )
    first = await ask()
    assert first.next_page is not None
    second = await ask(page=first.next_page)
    pages = (first, second)

    assert [bucket.start_time for page in pages for bucket in page.data] == [
        begin + 60 * minute for minute in range(1500)
    ]
    assert [(len(page.data), page.has_more) for page in pages] == [(1440, True), (60, False)]
    assert [len(page.data[0].results) for page in pages] == [1, 1]


@pytest.mark.parametrize(
    ("key", "status", "code"),
    [("", 401, "invalid_api_key"), ("sk-invalid", 401, "invalid_api_key"), ("sk-proj", 403, "missing_scope")],
)
@pytest.mark.parametrize("path", ["usage/images", "costs"])
async def test_key_without_admin_rights_is_refused(
    simulator: Simulator, key: str, status: int, code: str, path: str
) -> None:
    """An invalid key is a 401, a valid key that is not an admin key a 403."""
    async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {key}".strip()}) as http:
        answer = await http.get(f"{simulator.base_url}/organization/{path}?start_time={START}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("", "start_time"),
        ("start_time=yesterday", "start_time"),
        ("start_time=-1", "start_time"),
        (f"start_time={START}&start_time={START}", "start_time"),
        (f"start_time={START}&end_time={START}", "end_time"),
        (f"start_time={START}&bucket_width=1w", "bucket_width"),
        (f"start_time={START}&bucket_width=1m&limit=1441", "limit"),
        (f"start_time={START}&bucket_width=1h&limit=169", "limit"),
        (f"start_time={START}&limit=32", "limit"),
        (f"start_time={START}&limit=0", "limit"),
        (f"start_time={START}&group_by[]=line_item", "group_by"),
        (f"start_time={START}&page=2", "page"),
        (f"start_time={START}&colour=red", "colour"),
    ],
)
async def test_invalid_query_is_refused_with_its_parameter(
    simulator: Simulator, query: str, param: str
) -> None:
    async with httpx2.AsyncClient(headers={"Authorization": "Bearer sk-admin-test"}) as http:
        answer = await http.get(f"{simulator.base_url}/organization/usage/images?{query}")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


async def test_times_within_a_bucket_limit_its_entries(simulator: Simulator, admin: AsyncOpenAI) -> None:
    """The start is inclusive and the end exclusive, to the second, also within a bucket."""
    for second in (29, 30, 44, 45):
        note(simulator, TEN_PAST_NINE + timedelta(seconds=second))
    minute = int(TEN_PAST_NINE.timestamp())
    page = await admin.admin.organization.usage.images(
        start_time=minute + 30, end_time=minute + 45, bucket_width="1m"
    )
    [bucket] = page.data
    [result] = bucket.results
    assert result.object == "organization.usage.images.result"
    assert (bucket.start_time, result.num_model_requests) == (minute, 2)


async def test_costs_by_hour_are_refused(simulator: Simulator, admin: AsyncOpenAI) -> None:
    costs: Any = admin.admin.organization.usage.costs
    with pytest.raises(APIStatusError, match="bucket_width"):
        await costs(start_time=START, bucket_width="1h")


async def test_entries_without_project_and_key_are_counted(simulator: Simulator, admin: AsyncOpenAI) -> None:
    note(simulator, TEN_PAST_NINE, project_id=None, api_key_id=None)
    page = await admin.admin.organization.usage.images(start_time=START, end_time=START + DAY)
    assert len(page.data[0].results) == 1
