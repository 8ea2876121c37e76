"""A worker's pause after the provider said that it is too much: no call of this worker runs into the same refusal."""

import asyncio
import random
import time
from collections.abc import Callable
from datetime import timedelta

from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from imaging.retry_after import with_jitter

PROVIDER_PAUSED = "ProviderPaused"
LONGEST_IN_PLACE_SECONDS = 2.0
"""A call waits so long within its slot. For more it goes back to the server, which dispatches it again within the rate:
calls that had piled up here would all be sent at once."""
_GOES_ON_SECONDS = 60.0
_LONGEST_OF_OURS_SECONDS = 30.0


class SharedPause:
    """One for all calls of a provider's client. `clock` is monotonic."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until = clock() - _GOES_ON_SECONDS
        self._in_a_row = 0
        self._dice = random.SystemRandom()

    @property
    def seconds_left(self) -> float:
        """How long the pause still lasts."""
        return max(0.0, self._until - self._clock())

    def extend(self, seconds: float) -> None:
        """Lets the pause last at least so long from now; never shortens it.

        Where it goes on within a minute of the last pause, the next is twice as long as asked for, then three times: to
        wait a moment leaves as much asked for in the minute as before, and dispatches that are let pass do not.
        """
        now = self._clock()
        if now >= self._until:  # else it is the answer to a call that was under way already
            self._in_a_row = self._in_a_row + 1 if now - self._until < _GOES_ON_SECONDS else 1
        longer = min(seconds * max(1, self._in_a_row), _LONGEST_OF_OURS_SECONDS)
        self._until = max(self._until, now + max(seconds, longer))

    async def wait(self) -> None:
        """Returns once there is no pause.

        Raises:
            ApplicationError: type `ProviderPaused`, to be tried again when the pause is over, where that is not soon.
        """
        while left := self.seconds_left:
            wait = with_jitter(left, self._dice)
            if left > LONGEST_IN_PLACE_SECONDS:
                raise ApplicationError(
                    f"The provider has asked this worker to wait, {left:.0f} seconds more; nothing was sent.",
                    type=PROVIDER_PAUSED,
                    next_retry_delay=timedelta(seconds=wait),
                    category=ApplicationErrorCategory.BENIGN,
                )
            await asyncio.sleep(wait)
