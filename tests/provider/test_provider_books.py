"""The provider's own books, read by the real SDK over real HTTP from the simulator, and from servers that answer badly."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, date, datetime, timedelta

import pytest
from aiohttp import web

from gpt_image_runs.contracts.provider_reconciliation import CostLine, ProviderDay, RequestCount
from gpt_image_runs.provider.usage_api import (
    BooksFailure,
    BooksNotConfigured,
    BooksRefused,
    BooksSettings,
    BooksUnavailable,
    BooksUnreadable,
    ProviderBooks,
)
from simulator.request_log import BookEntry
from simulator.server import Simulator

DAY = date(2026, 11, 20)
MIDNIGHT = datetime(2026, 11, 20, tzinfo=UTC)
SINCE, UNTIL = MIDNIGHT - timedelta(minutes=15), MIDNIGHT + timedelta(days=1, minutes=15)
KEY = "sk-admin-0123456789abcdef"
EMPTY = {"object": "page", "data": [], "has_more": False, "next_page": None}

Answer = Callable[[web.Request], Awaitable[web.Response]]
Serve = Callable[[Answer], Awaitable[str]]


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator() as running:
        yield running


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Starts a server that answers everything alike; gives its base URL."""
    async with AsyncExitStack() as running:

        async def start(answer: Answer) -> str:
            app = web.Application()
            app.router.add_get("/v1/{rest:.*}", answer)
            runner = web.AppRunner(app, access_log=None)
            await runner.setup()
            running.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            return f"http://127.0.0.1:{runner.addresses[0][1]}/v1"

        yield start


def note(simulator: Simulator, at: datetime, *, key: str = "key_1", project: str = "proj_1") -> None:
    """A paid picture of gpt-image-1 in the simulator's books: 50 tokens in, 4160 out."""
    simulator.books.record(
        BookEntry(
            time=at,
            request_id="req_1",
            client_request_id=None,
            client_request_id_repeated=False,
            project_id=project,
            api_key_id=key,
            endpoint="generations",
            model="gpt-image-1",
            n=1,
            paid=True,
            status=200,
            usage={
                "input_tokens": 50,
                "input_tokens_details": {"text_tokens": 50, "image_tokens": 0},
                "output_tokens": 4160,
                "total_tokens": 4210,
            },
        )
    )


async def read(base_url: str, *, key: str | None = KEY, **filters: str | None) -> ProviderDay:
    books = ProviderBooks(BooksSettings(admin_key=key, base_url=base_url))
    chosen: dict[str, str | None] = {"project_id": None, "api_key_id": None, **filters}
    return await books.read_day(
        DAY, SINCE, UNTIL, project_id=chosen["project_id"], api_key_id=chosen["api_key_id"]
    )


async def test_a_day_is_read_with_its_margins(simulator: Simulator) -> None:
    """Counts come from all pages of 1470 minutes, and money is that of the day alone."""
    for at in (SINCE, MIDNIGHT, UNTIL - timedelta(seconds=1)):
        note(simulator, at)
    note(simulator, SINCE - timedelta(seconds=1))
    note(simulator, UNTIL)
    day = await read(simulator.base_url)

    assert day.counts == tuple(
        RequestCount(start=start, model="gpt-image-1", requests=1, images=1)
        for start in (SINCE, MIDNIGHT, UNTIL - timedelta(minutes=1))
    )
    assert day.lines == (
        CostLine(line_item="gpt-image-1, text_in", amount_usd="0.000250"),
        CostLine(line_item="gpt-image-1, image_out", amount_usd="0.166400"),
    )


@pytest.mark.parametrize("filters", [{"project_id": "proj_2"}, {"api_key_id": "key_2"}])
async def test_usage_is_filtered_by_project_and_key(simulator: Simulator, filters: dict[str, str]) -> None:
    """With a project or a key, counts and money of others are left out."""
    note(simulator, MIDNIGHT)
    note(simulator, MIDNIGHT, key="key_2", project="proj_2")
    day = await read(simulator.base_url, **filters)

    assert [count.requests for count in day.counts] == [1]
    assert [line.amount_usd for line in day.lines] == ["0.000250", "0.166400"]


async def test_project_in_the_environment_is_not_sent(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """The admin key alone asks: neither the key that makes pictures nor its project goes along."""
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj_1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-pictures")
    seen: list[tuple[str | None, str | None]] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append((request.headers.get("Authorization"), request.headers.get("OpenAI-Project")))
        return web.json_response(EMPTY)

    assert await read(await serve(answer), project_id="proj_1") == ProviderDay(counts=(), lines=())
    assert seen == [(f"Bearer {KEY}", None)] * 2


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        (
            "sk-project",
            r"may not read the organization's books \(HTTP 403: .*\)\. Set OPENAI_ADMIN_KEY to an admin",
        ),
        ("sk-invalid", r"refuses the admin key \(HTTP 401: .*\)\. Set OPENAI_ADMIN_KEY to an admin key"),
    ],
)
async def test_refused_admin_key_names_its_setting(simulator: Simulator, key: str, sentence: str) -> None:
    """A key that is none, or no admin's, ends with a sentence that names the setting and what belongs there."""
    with pytest.raises(BooksRefused, match=sentence):
        await read(simulator.base_url, key=key)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (BooksSettings(admin_key=None), "There is no admin key .*: set OPENAI_ADMIN_KEY"),
        (BooksSettings(admin_key="  "), "There is no admin key"),
        (BooksSettings(admin_key="sk-admin- x"), "OPENAI_ADMIN_KEY contains a space"),
        (BooksSettings(admin_key=KEY, is_azure=True), "Azure has no organization endpoints"),
    ],
)
async def test_missing_setting_sends_no_request(settings: BooksSettings, sentence: str) -> None:
    """Without a key, or at a provider without such books, the sentence says so before anything is sent."""
    with pytest.raises(BooksNotConfigured, match=sentence):
        await ProviderBooks(settings).read_day(DAY, SINCE, UNTIL, project_id=None, api_key_id=None)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, BooksRefused),
        (404, BooksRefused),
        (429, BooksUnavailable),
        (500, BooksUnavailable),
        (503, BooksUnavailable),
    ],
)
async def test_an_error_is_tried_again_where_that_helps(
    serve: Serve, status: int, kind: type[BooksFailure]
) -> None:
    """Rate limits and errors of the server may pass, the rest does not; no sentence holds the key."""

    async def answer(request: web.Request) -> web.Response:
        return web.json_response({"error": {"message": f"No, {KEY}"}}, status=status)

    with pytest.raises(kind) as raised:
        await read(await serve(answer))
    assert f"HTTP {status}: No, [admin key]" in str(raised.value)
    assert raised.value.retryable == (kind is BooksUnavailable)


async def test_a_server_that_is_away_may_come_back(unused_tcp_port: int) -> None:
    """Nobody at the address: it can be tried again."""
    with pytest.raises(BooksUnavailable, match="cannot be reached"):
        await read(f"http://127.0.0.1:{unused_tcp_port}/v1")


async def read_one(serve: Serve, *, usage: str | None = None, cost: str | None = None) -> ProviderDay:
    """What is read where these texts are a result of the counts or of the costs."""
    empty = '{"data": [], "has_more": false}'

    async def answer(request: web.Request) -> web.Response:
        result = usage if request.path.endswith("/images") else cost
        start = int(MIDNIGHT.timestamp())
        page = f'{{"has_more": false, "data": [{{"start_time": {start}, "results": [{result}]}}]}}'
        return web.Response(text=page if result else empty, content_type="application/json")

    return await read(await serve(answer))


@pytest.mark.parametrize(
    ("value", "amount"),
    [
        ("0.1", "0.100000"),
        ("0.30000000000000004", "0.300000"),
        ("12", "12.000000"),
        ("1.5e-05", "0.000015"),
        ("0.0000008075", "0.0000008075"),
        ('"0E-6176"', "0.000000"),
        ('"0.166650"', "0.166650"),
        ("-0.25", "-0.250000"),
        ("123456789.123456789012", "123456789.123456789012"),
    ],
)
async def test_money_is_read_as_it_is_written(serve: Serve, value: str, amount: str) -> None:
    """An amount is what its digits say, to a millionth of a micro-USD: no float has been in between."""
    day = await read_one(
        serve, cost=f'{{"line_item": "x", "amount": {{"value": {value}, "currency": "usd"}}}}'
    )
    assert day.lines == (CostLine(line_item="x", amount_usd=amount),)


@pytest.mark.parametrize(
    "cost",
    [
        '{"amount": {"value": "much", "currency": "usd"}}',
        '{"amount": {"value": "NaN", "currency": "usd"}}',
        '{"amount": {"value": 1e400, "currency": "usd"}}',
        '{"amount": {"value": null, "currency": "usd"}}',
        '{"amount": {"value": 1, "currency": "eur"}}',
        '{"amount": NaN}',
        '{"amount": [1]}',
        "{}",
        "7",
    ],
)
async def test_unreadable_amount_is_refused(serve: Serve, cost: str) -> None:
    """An amount that is none, or in another currency, ends the reading: it never counts as nothing."""
    with pytest.raises(BooksUnreadable, match="books cannot be read: "):
        await read_one(serve, cost=cost)


@pytest.mark.parametrize(
    "usage",
    [
        '{"num_model_requests": -1, "images": 1}',
        '{"num_model_requests": true, "images": 1}',
        '{"num_model_requests": 1.5, "images": 1}',
        '{"images": 1}',
    ],
)
async def test_invalid_count_is_refused(serve: Serve, usage: str) -> None:
    """A count has to be a whole number from zero."""
    with pytest.raises(BooksUnreadable, match="num_model_requests that is not a count"):
        await read_one(serve, usage=usage)


@pytest.mark.parametrize(
    "body",
    [
        "<html>",
        "[]",
        "{}",
        '{"data": [], "has_more": true}',
        '{"data": [], "has_more": true, "next_page": null}',
        '{"data": [7], "has_more": false}',
        '{"data": [{"results": []}], "has_more": false}',
    ],
)
async def test_invalid_page_is_refused(serve: Serve, body: str) -> None:
    """Whatever else answers at the address is told as that."""

    async def answer(request: web.Request) -> web.Response:
        return web.Response(text=body, content_type="application/json")

    with pytest.raises(BooksUnreadable, match="Check that OPENAI_BASE_URL is OpenAI's own API"):
        await read(await serve(answer))


async def test_pages_without_end_are_not_followed_for_ever(serve: Serve) -> None:
    """A hundred pages are enough for any day: then something else answers."""
    asked = 0

    async def answer(request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        return web.json_response({**EMPTY, "has_more": True, "next_page": "page_1"})

    with pytest.raises(BooksUnreadable, match="more than 100 pages"):
        await read(await serve(answer))
    assert asked == 100
