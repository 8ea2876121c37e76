"""A worker's pauses after the provider said that it is too much: no call for the same model runs into the same refusal.

Limits are per model and key: a worker has one key, so it has one pause for each model.
"""

import asyncio
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import structlog
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from imaging.retry_after import with_jitter

PROVIDER_PAUSED = "ProviderPaused"
LONGEST_IN_PLACE_SECONDS = 2.0
"""A call waits so long within its slot. For more it goes back to the server, which dispatches it again within the rate:
calls that had piled up here would all be sent at once."""
_GOES_ON_SECONDS = 60.0
_LONGEST_OF_OURS_SECONDS = 30.0
# A pause that is on is logged again where it becomes longer by that much: 32 calls may be refused at once.
_WORTH_SAYING_SECONDS = 5.0

log = structlog.get_logger("shared_pause")

OnPause = Callable[[str, datetime], None]


def _tell_nobody(_model: str, _until: datetime) -> None:
    """Where nothing is counted."""


class SharedPauses:
    """The pauses of one provider's client, by model. `clock` is monotonic.

    `on_pause` is told the model and until when its calls wait, whenever a pause begins or becomes longer.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, on_pause: OnPause = _tell_nobody) -> None:
        self._clock = clock
        self._on_pause = on_pause
        self._by_model: dict[str, SharedPause] = {}

    def is_on(self, model: str) -> bool:
        """Whether calls for this model wait now."""
        return model in self._by_model and self._by_model[model].seconds_left > 0

    def extend(self, model: str, seconds: float) -> None:
        """Lets calls for this model wait at least so long from now."""
        self._by_model = {name: pause for name, pause in self._by_model.items() if pause.goes_on}
        pause = self._by_model.setdefault(model, SharedPause(model, self._clock))
        before = pause.seconds_left
        pause.extend(seconds)
        longer = pause.seconds_left - before
        if longer <= 0:
            return
        until = datetime.now(UTC) + timedelta(seconds=pause.seconds_left)
        self._on_pause(model, until)
        if not before or longer >= _WORTH_SAYING_SECONDS:
            log.warning(
                "provider_paused",
                model=model,
                seconds=round(pause.seconds_left, 1),
                until=until.isoformat(timespec="seconds"),
            )

    async def wait(self, model: str) -> None:
        """Returns once there is no pause for this model. Raises as `SharedPause.wait`."""
        if pause := self._by_model.get(model):
            await pause.wait()


class SharedPause:
    """One for all calls of a provider's client for one model. `clock` is monotonic."""

    def __init__(self, model: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._model = model
        self._clock = clock
        self._until = clock() - _GOES_ON_SECONDS
        self._in_a_row = 0
        self._dice = random.SystemRandom()

    @property
    def seconds_left(self) -> float:
        """How long the pause still lasts."""
        return max(0.0, self._until - self._clock())

    @property
    def goes_on(self) -> bool:
        """Whether the pause lasts, or a refusal now would make the next one longer."""
        return self._clock() - self._until < _GOES_ON_SECONDS

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
                    f"The provider has asked this worker to wait with {self._model}, {left:.0f} seconds more;"
                    " nothing was sent.",
                    type=PROVIDER_PAUSED,
                    next_retry_delay=timedelta(seconds=wait),
                    category=ApplicationErrorCategory.BENIGN,
                )
            await asyncio.sleep(wait)
