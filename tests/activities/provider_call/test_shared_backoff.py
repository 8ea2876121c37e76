"""The pause of all calls after a 429: a call waits in place for a short one, and is retried after a long one."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
import structlog
from temporalio.exceptions import ApplicationError

from activities.provider_call.retry_state import PROVIDER_PAUSED, SharedBackoff, SharedBackoffs


class Clock:
    """A monotonic clock that a test sets."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


async def test_wait_without_a_pause_returns_at_once() -> None:
    await asyncio.wait_for(SharedBackoff("m", Clock()).wait(), timeout=1)


async def test_every_call_waits_until_a_short_pause_is_over() -> None:
    pause, loop = SharedBackoff("m"), asyncio.get_running_loop()
    pause.extend(0.2)
    began = loop.time()
    await asyncio.gather(*(pause.wait() for _ in range(5)))
    assert loop.time() - began >= 0.19
    assert pause.seconds_left == 0


async def test_long_pause_fails_the_call_with_a_retry_after_the_pause() -> None:
    """A waiting call must not occupy a slot for long. The delay has up to a quarter of jitter."""
    pause = SharedBackoff("m", Clock())
    pause.extend(40)
    with pytest.raises(ApplicationError, match="requests for m: 40 seconds are left") as raised:
        await pause.wait()
    assert raised.value.type == PROVIDER_PAUSED
    assert not raised.value.non_retryable
    delay = raised.value.next_retry_delay
    assert delay is not None
    assert timedelta(seconds=40) <= delay <= timedelta(seconds=50)


async def test_pause_is_never_shortened() -> None:
    clock = Clock()
    pause = SharedBackoff("m", clock)
    pause.extend(30)
    pause.extend(3)
    clock.now += 10
    assert pause.seconds_left == pytest.approx(20)


async def test_repeated_refusals_lengthen_the_pause_up_to_half_a_minute() -> None:
    """Calls that were in flight together count once, and a minute without a refusal resets it."""
    clock = Clock()
    pause = SharedBackoff("m", clock)
    lengths = []
    for quiet in (0, 1, 1, 100):
        clock.now += pause.seconds_left + quiet
        for _ in range(3):
            pause.extend(4)
        lengths.append(pause.seconds_left)
    assert lengths == pytest.approx([4, 8, 12, 4])
    for _ in range(20):
        clock.now += pause.seconds_left
        pause.extend(4)
    assert pause.seconds_left == pytest.approx(30)


async def test_pause_of_one_model_does_not_stop_another() -> None:
    clock = Clock()
    pauses = SharedBackoffs(clock)
    pauses.extend("gpt-image-2", 600)
    pauses.extend("gpt-image-1", 3)
    clock.now += 4
    assert pauses.is_on("gpt-image-2")
    with pytest.raises(ApplicationError, match="requests for gpt-image-2: 596 seconds are left"):
        await pauses.wait("gpt-image-2")
    for other in ("gpt-image-1", "gpt-image-1.5"):
        assert not pauses.is_on(other)
        await asyncio.wait_for(pauses.wait(other), timeout=1)


async def test_pause_is_reported_with_its_model_and_end_when_it_begins_or_grows() -> None:
    """To the log and the meter, however many calls are refused."""
    clock, reported = Clock(), list[tuple[str, datetime]]()
    pauses = SharedBackoffs(clock, on_pause=lambda model, until: reported.append((model, until)))
    before = datetime.now(UTC)
    with structlog.testing.capture_logs() as logged:
        for _ in range(32):
            pauses.extend("gpt-image-2", 20)
            clock.now += 0.001
        pauses.extend("gpt-image-2", 600)
        pauses.extend("gpt-image-2", 1)

    assert [(line["event"], line["model"], line["seconds"]) for line in logged] == [
        ("provider_paused", "gpt-image-2", 20),
        ("provider_paused", "gpt-image-2", 600),
    ]
    model, until = reported[-1]
    assert model == "gpt-image-2"
    assert timedelta(seconds=600) <= until - before <= timedelta(seconds=610)
    assert datetime.fromisoformat(logged[-1]["until"]) == until.replace(microsecond=0)


async def test_pauses_that_ended_long_ago_are_forgotten() -> None:
    """A model's name is whatever a caller writes, so the number of pauses must not grow without limit."""
    clock = Clock()
    pauses = SharedBackoffs(clock)
    for number in range(50):
        pauses.extend(f"model-{number}", 1)
        clock.now += 61
    assert len(pauses._by_model) <= 2
