"""The organization's limit of images per minute: what counts, what is refused, what a response says about it."""

import asyncio

import httpx2
import openai
import pytest
from openai import AsyncOpenAI

from simulator.http import ApiError, StartupError
from simulator.rate_limits import RateLimits, SlidingWindow, format_duration
from simulator.server import Simulator
from tests.simulator.conftest import MakePicture

ORDER = {"model": "gpt-image-2", "prompt": "A cup", "quality": "low", "size": "1024x1024"}


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_window_counts_requests_for_60_seconds() -> None:
    """The limit is not reset with each full minute."""
    clock = Clock()
    window = SlidingWindow(5, clock)
    window.count(3)
    clock.now += 59
    window.count(2)
    assert not window.has_room_for(1)
    assert window.seconds_until(3) == pytest.approx(1)
    assert window.seconds_until(4) == pytest.approx(60)
    clock.now += 1
    assert window.has_room_for(3)
    assert not window.has_room_for(4)
    clock.now += 59
    assert window.used == 0


def test_refused_requests_count() -> None:
    """A client that only repeats a refused request stays refused."""
    clock = Clock()
    limits = RateLimits(4, None, clock)
    limits.admit("gpt-image-2", images=4, input_images=0)
    clock.now += 59
    with pytest.raises(ApiError) as refused:
        limits.admit("gpt-image-2", images=2, input_images=0)
    assert refused.value.headers == {"retry-after": "1"}
    clock.now += 1.5
    limits.admit("gpt-image-2", images=2, input_images=0)
    with pytest.raises(ApiError) as refused:
        limits.admit("gpt-image-2", images=1, input_images=0)
    assert refused.value.headers == {"retry-after": "59"}


async def test_refusal_names_the_limit_and_the_time_to_wait() -> None:
    async with (
        Simulator(images_per_minute=5) as simulator,
        AsyncOpenAI(base_url=simulator.base_url, api_key="sk-test", max_retries=0) as client,
    ):
        raw = await client.images.with_raw_response.generate(**ORDER, n=4)  # type: ignore[call-overload]
        with pytest.raises(openai.RateLimitError) as refused:
            await client.images.generate(**ORDER, n=2)  # type: ignore[call-overload]
        answer = refused.value.response
        entries = simulator.books.entries

    assert raw.headers["x-ratelimit-limit-images"] == "5"
    assert raw.headers["x-ratelimit-remaining-images"] == "1"
    assert raw.headers["x-ratelimit-reset-images"].endswith("s")
    assert refused.value.code == "rate_limit_exceeded"
    assert "on images per min (IPM): Limit 5, Used 4, Requested 2. Please try again in " in str(refused.value)
    assert 55 <= int(answer.headers["retry-after"]) <= 60
    assert answer.headers["x-ratelimit-remaining-images"] == "0"
    assert [(entry.n, entry.status, entry.error_code, entry.paid) for entry in entries] == [
        (4, 200, None, True),
        (2, 429, "rate_limit_exceeded", False),
    ]


async def test_failed_and_malformed_requests_count_unknown_keys_do_not() -> None:
    async with (
        Simulator(images_per_minute=3) as simulator,
        httpx2.AsyncClient(base_url=simulator.base_url) as http,
    ):

        async def ask(key: str, **changes: object) -> int:
            headers = {"Authorization": f"Bearer {key}"}
            return (
                await http.post("/images/generations", json={**ORDER, **changes}, headers=headers)
            ).status_code

        assert await ask("sk-invalid") == 401
        assert await ask("sk-test", n=99) == 400
        assert await ask("sk-test", prompt="A cup [simulate:server_error]", n=2) == 500
        assert await ask("sk-test") == 429
        books = (await http.get(simulator.base_url.replace("/v1", "/_simulator/books"))).json()
    assert books["limits"] == {"images": {"limit": 3, "used": 3}, "input_images": {"limit": 3, "used": 0}}


async def test_input_images_have_their_own_limit(make_picture: MakePicture) -> None:
    pictures = [(f"{index}.png", make_picture("RGB", (64, 64), "red"), "image/png") for index in range(3)]
    async with (
        Simulator(images_per_minute=50, input_images_per_minute=5) as simulator,
        AsyncOpenAI(base_url=simulator.base_url, api_key="sk-test", max_retries=0) as client,
    ):
        await client.images.edit(image=pictures, prompt="A cup", model="gpt-image-2", quality="low")
        with pytest.raises(
            openai.RateLimitError, match="on input-images per min: Limit 5, Used 3, Requested 3"
        ):
            await client.images.edit(image=pictures, prompt="A cup", model="gpt-image-2", quality="low")
        raw = await client.images.with_raw_response.generate(**ORDER)  # type: ignore[call-overload]
    assert raw.headers["x-ratelimit-remaining-input-images"] == "0"
    assert raw.headers["x-ratelimit-remaining-images"] == "47"


async def test_concurrent_requests_get_exactly_the_limit() -> None:
    async with (
        Simulator(images_per_minute=5) as simulator,
        AsyncOpenAI(base_url=simulator.base_url, api_key="sk-test", max_retries=0) as client,
    ):
        await asyncio.gather(
            *(client.images.generate(**ORDER) for _ in range(12)),  # type: ignore[call-overload]
            return_exceptions=True,
        )
        statuses = [entry.status for entry in simulator.books.entries]
    assert (statuses.count(200), statuses.count(429)) == (5, 7)


async def test_no_limit_headers_without_a_limit(client: AsyncOpenAI) -> None:
    raw = await client.images.with_raw_response.generate(**ORDER, n=10)  # type: ignore[call-overload]
    assert not [name for name in raw.headers if name.endswith("-images")]


def test_limit_below_one_is_refused() -> None:
    with pytest.raises(StartupError, match="0 is not a valid limit of images per minute"):
        Simulator(images_per_minute=0)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0ms"), (0.12, "120ms"), (3, "3s"), (3.5, "3.5s"), (60, "1m0s"), (65.25, "1m5.25s")],
)
def test_durations_are_formatted_as_the_provider_does(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
