"""A paid call is not cancelled, and heartbeats are sent meanwhile."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from temporalio.activity import ActivityCancellationDetails
from temporalio.testing import ActivityEnvironment

from activities.heartbeats import heartbeats, shield_from_cancellation


@pytest.mark.parametrize(
    "details",
    [
        ActivityCancellationDetails(paused=True),
        ActivityCancellationDetails(worker_shutdown=True),
        ActivityCancellationDetails(cancel_requested=True),
        ActivityCancellationDetails(timed_out=True),
        ActivityCancellationDetails(reset=True),
    ],
)
async def test_shielded_call_completes_despite_cancellation(details: ActivityCancellationDetails) -> None:
    sent, answered = asyncio.Event(), asyncio.Event()

    async def call() -> str:
        sent.set()
        await answered.wait()
        return "the picture"

    environment = ActivityEnvironment()
    running = asyncio.ensure_future(environment.run(shield_from_cancellation, call()))
    await sent.wait()
    environment.cancel(details)
    await asyncio.sleep(0)
    answered.set()

    assert await running == "the picture"


async def test_cancellation_at_the_moment_of_the_answer_does_not_lose_it() -> None:
    answered = asyncio.Event()
    environment = ActivityEnvironment()

    async def call() -> str:
        await answered.wait()
        # Before the task that awaits this call is resumed.
        asyncio.get_running_loop().call_soon(environment.cancel)
        return "the picture"

    running = asyncio.ensure_future(environment.run(shield_from_cancellation, call()))
    await asyncio.sleep(0)
    answered.set()

    assert await running == "the picture"


async def test_shielded_call_raises_its_own_error() -> None:
    async def call() -> None:
        raise ConnectionError("reset")

    with pytest.raises(ConnectionError, match="reset"):
        await ActivityEnvironment().run(shield_from_cancellation, call())


async def test_heartbeats_are_sent_in_the_background() -> None:
    beats = asyncio.Queue[tuple[object, ...]]()

    async def work() -> None:
        async with heartbeats():
            for _ in range(3):
                await beats.get()

    environment = ActivityEnvironment()
    environment.info = replace(environment.info, heartbeat_timeout=timedelta(milliseconds=30))
    environment.on_heartbeat = lambda *details: beats.put_nowait(details)

    await asyncio.wait_for(environment.run(work), timeout=60)


@pytest.mark.parametrize("details", [(), ("given",)])
async def test_short_activity_sends_a_heartbeat_only_for_its_details(details: tuple[str, ...]) -> None:
    """The details are for the next attempt and are sent at once, as this attempt may fail soon."""
    beats: list[tuple[object, ...]] = []

    async def work() -> None:
        async with heartbeats(*details):
            await asyncio.sleep(0)

    environment = ActivityEnvironment()
    environment.info = replace(environment.info, heartbeat_timeout=timedelta(seconds=30))
    environment.on_heartbeat = lambda *sent: beats.append(sent)

    await environment.run(work)

    assert beats == ([details] if details else [])
