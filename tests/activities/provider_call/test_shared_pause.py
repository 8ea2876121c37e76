"""A worker's pause after a 429: short ones are waited for in place, long ones give the call back."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
import structlog
from temporalio.exceptions import ApplicationError

from activities.provider_call.retry_state import PROVIDER_PAUSED, SharedBackoff, SharedBackoffs


class Clock:
    """A clock that a test sets."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


async def test_no_pause() -> None:
    """Without a refusal nobody waits."""
    await asyncio.wait_for(SharedBackoff("m", Clock()).wait(), timeout=1)


async def test_a_short_pause_is_waited_for() -> None:
    """Every call waits until the pause is over, at least."""
    pause, loop = SharedBackoff("m"), asyncio.get_running_loop()
    pause.extend(0.2)
    began = loop.time()
    await asyncio.gather(*(pause.wait() for _ in range(5)))
    assert loop.time() - began >= 0.19
    assert pause.seconds_left == 0


async def test_a_long_pause_gives_the_call_back() -> None:
    """A call holds no slot for long: it fails so that it is dispatched again when the pause is over, with up to a quarter more."""
    pause = SharedBackoff("m", Clock())
    pause.extend(40)
    with pytest.raises(ApplicationError, match="wait with m, 40 seconds more; nothing was sent") as raised:
        await pause.wait()
    assert raised.value.type == PROVIDER_PAUSED
    assert not raised.value.non_retryable
    delay = raised.value.next_retry_delay
    assert delay is not None
    assert timedelta(seconds=40) <= delay <= timedelta(seconds=50)


async def test_a_pause_is_never_shortened() -> None:
    """Of several refusals the longest delay counts."""
    clock = Clock()
    pause = SharedBackoff("m", clock)
    pause.extend(30)
    pause.extend(3)
    clock.now += 10
    assert pause.seconds_left == pytest.approx(20)


async def test_refusals_that_go_on_lengthen_the_pause() -> None:
    """A refusal soon after a pause doubles the next, further ones treble it, up to half a minute; calls that were under
    way together count once, and after a quiet minute all is as at first.
    """
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


async def test_pause_of_one_model_stops_no_other() -> None:
    """Limits are per model: a long pause for one leaves calls for another alone, also calls that come for the first time."""
    clock = Clock()
    pauses = SharedBackoffs(clock)
    pauses.extend("gpt-image-2", 600)
    pauses.extend("gpt-image-1", 3)
    clock.now += 4
    assert pauses.is_on("gpt-image-2")
    with pytest.raises(ApplicationError, match="wait with gpt-image-2, 596 seconds more"):
        await pauses.wait("gpt-image-2")
    for other in ("gpt-image-1", "gpt-image-1.5"):
        assert not pauses.is_on(other)
        await asyncio.wait_for(pauses.wait(other), timeout=1)


async def test_pause_is_told_with_its_model_and_its_end() -> None:
    """To the log and the meter: once when it begins, and when it becomes longer by enough, however many calls are refused."""
    clock, told = Clock(), list[tuple[str, datetime]]()
    pauses = SharedBackoffs(clock, on_pause=lambda model, until: told.append((model, until)))
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
    model, until = told[-1]
    assert model == "gpt-image-2"
    assert timedelta(seconds=600) <= until - before <= timedelta(seconds=610)
    assert datetime.fromisoformat(logged[-1]["until"]) == until.replace(microsecond=0)


async def test_pauses_that_are_long_over_are_forgotten() -> None:
    """A model's name is whatever a caller writes: what is kept of them does not grow for ever."""
    clock = Clock()
    pauses = SharedBackoffs(clock)
    for number in range(50):
        pauses.extend(f"model-{number}", 1)
        clock.now += 61
    assert len(pauses._by_model) <= 2
