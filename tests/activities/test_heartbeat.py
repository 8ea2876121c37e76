"""A paid call goes on whatever asks it to stop, and heartbeats go on with it."""

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
async def test_a_paid_call_is_finished(details: ActivityCancellationDetails) -> None:
    """Pause, shutdown, cancellation, timeout and reset all let a call that was sent run to its end."""
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


async def test_a_cancellation_at_the_moment_of_the_answer() -> None:
    """A cancellation that comes in the very moment in which the call ends does not take its result away."""
    answered = asyncio.Event()
    environment = ActivityEnvironment()

    async def call() -> str:
        await answered.wait()
        # Before whoever waits for this call hears that it has ended.
        asyncio.get_running_loop().call_soon(environment.cancel)
        return "the picture"

    running = asyncio.ensure_future(environment.run(shield_from_cancellation, call()))
    await asyncio.sleep(0)
    answered.set()

    assert await running == "the picture"


async def test_a_call_s_own_failure_is_told() -> None:
    """A call that fails by itself fails as it is."""

    async def call() -> None:
        raise ConnectionError("reset")

    with pytest.raises(ConnectionError, match="reset"):
        await ActivityEnvironment().run(shield_from_cancellation, call())


async def test_heartbeats_come_in_the_background() -> None:
    """Heartbeats come while an activity waits for something else."""
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
async def test_a_short_activity_sends_no_heartbeat_but_for_its_details(details: tuple[str, ...]) -> None:
    """Temporal counts from the start by itself; what is for the next attempt is told at once, as this one may fail soon."""
    beats: list[tuple[object, ...]] = []

    async def work() -> None:
        async with heartbeats(*details):
            await asyncio.sleep(0)

    environment = ActivityEnvironment()
    environment.info = replace(environment.info, heartbeat_timeout=timedelta(seconds=30))
    environment.on_heartbeat = lambda *sent: beats.append(sent)

    await environment.run(work)

    assert beats == ([details] if details else [])
