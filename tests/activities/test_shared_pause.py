"""A worker's pause after a 429: short ones are waited for in place, long ones give the call back."""

import asyncio
from datetime import timedelta

import pytest
from temporalio.exceptions import ApplicationError

from activities.shared_pause import PROVIDER_PAUSED, SharedPause


class Clock:
    """A clock that a test sets."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


async def test_no_pause() -> None:
    """Without a refusal nobody waits."""
    await asyncio.wait_for(SharedPause(Clock()).wait(), timeout=1)


async def test_a_short_pause_is_waited_for() -> None:
    """Every call waits until the pause is over, at least."""
    pause, loop = SharedPause(), asyncio.get_running_loop()
    pause.extend(0.2)
    began = loop.time()
    await asyncio.gather(*(pause.wait() for _ in range(5)))
    assert loop.time() - began >= 0.19
    assert pause.seconds_left == 0


async def test_a_long_pause_gives_the_call_back() -> None:
    """A call holds no slot for long: it fails so that it is dispatched again when the pause is over, with up to a quarter more."""
    pause = SharedPause(Clock())
    pause.extend(40)
    with pytest.raises(ApplicationError, match="40 seconds more; nothing was sent") as raised:
        await pause.wait()
    assert raised.value.type == PROVIDER_PAUSED
    assert not raised.value.non_retryable
    delay = raised.value.next_retry_delay
    assert delay is not None
    assert timedelta(seconds=40) <= delay <= timedelta(seconds=50)


async def test_a_pause_is_never_shortened() -> None:
    """Of several refusals the longest delay counts."""
    clock = Clock()
    pause = SharedPause(clock)
    pause.extend(30)
    pause.extend(3)
    clock.now += 10
    assert pause.seconds_left == pytest.approx(20)


async def test_refusals_that_go_on_lengthen_the_pause() -> None:
    """A refusal soon after a pause doubles the next, further ones treble it, up to half a minute; calls that were under
    way together count once, and after a quiet minute all is as at first.
    """
    clock = Clock()
    pause = SharedPause(clock)
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
