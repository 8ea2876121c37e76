"""Requests that are still under way: a run waits for the answer of an earlier one instead of buying it again.

A run that was terminated and started anew, a workflow that was reset, an attempt that Temporal gave up: each leaves a call
behind that goes on to its end, as hanging up would save nothing. Its worker shows signs of life in the image store.

No clock of another host decides whether that worker lives: who waits watches whether the sign changes, by its own monotonic
clock. A clock that is wrong by a day thus neither pays twice nor makes anybody wait for a day.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import structlog
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from billing.attempt_records import Attempt, AttemptOutcome
from imaging.store import ImageStore

STILL_UNDER_WAY = "StillUnderWay"
WAITS_IN_A_BATCH = "WaitsInABatch"
# Each sign is a small write to the store.
SIGN_EVERY = timedelta(seconds=10)
# After three signs that did not come the caller is dead, as for Temporal's heartbeats.
SILENCE = timedelta(seconds=30)
LOOK_AGAIN = timedelta(seconds=3)
# An attempt that nobody has asked about for so long is forgotten; asked about again, it is watched from the start.
_FORGOTTEN_SECONDS = 3600.0

log = structlog.get_logger("under_way")


class _Watched(NamedTuple):
    """The sign that an attempt showed when it was looked at, since when it is the same, and when it was looked at last."""

    sign: bytes | None
    since: float
    looked_at: float


class Liveness:
    """Shows that this worker's attempts are under way, and watches those of others. One for each worker process.

    `clock` is monotonic, in seconds. Signs are compared with each other only, so each worker watches for itself: of a run
    whose attempts go to many workers, the first that has watched for `SILENCE` goes on.
    """

    def __init__(self, store: ImageStore, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._own: set[str] = set()
        self._watched: dict[str, _Watched] = {}

    @contextlib.asynccontextmanager
    async def signs_of_life(self, attempt_id: str) -> AsyncIterator[None]:
        """Shows that an attempt is under way while the block runs. Its row in the ledger is the first sign."""
        self._own.add(attempt_id)
        showing = asyncio.create_task(_show(self._store, attempt_id))
        try:
            yield
        finally:
            self._own.discard(attempt_id)
            showing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await showing

    async def wait_for_open_attempts(self, earlier: tuple[Attempt, ...]) -> None:
        """Raises an ApplicationError that is tried again soon, until the caller of an open attempt was silent for `SILENCE`.

        A line of an economy batch has no caller who could show signs: its answer may take a day, and the run is refused until
        it is there.
        """
        for attempt in earlier:
            if attempt.finished_at is not None:
                continue
            if attempt.batch_part:
                raise _waits_in_a_batch(attempt)
            if not await self._is_silent(attempt.attempt_id):
                raise still_under_way(attempt.number)

    async def _is_silent(self, attempt_id: str) -> bool:
        # Its task may be late with a sign where this process is short of time; it lives all the same.
        if attempt_id in self._own:
            return False
        sign = await self._store.read_document(_key(attempt_id))
        now = self._clock()
        self._forget(now)
        watched = self._watched.get(attempt_id)
        since = watched.since if watched and watched.sign == sign else now
        self._watched[attempt_id] = _Watched(sign, since, now)
        return now - since >= SILENCE.total_seconds()

    def _forget(self, now: float) -> None:
        for attempt_id, watched in list(self._watched.items()):
            if now - watched.looked_at > _FORGOTTEN_SECONDS:
                del self._watched[attempt_id]


def still_under_way(number: int) -> ApplicationError:
    """The failure of an attempt that has to wait for another; nothing was sent."""
    return ApplicationError(
        f"Request {number} of this run is still under way: its answer is waited for, and nothing is sent meanwhile.",
        type=STILL_UNDER_WAY,
        next_retry_delay=LOOK_AGAIN,
        category=ApplicationErrorCategory.BENIGN,
    )


def _waits_in_a_batch(attempt: Attempt) -> ApplicationError:
    batch_id = (attempt.batch_part or "").partition("/")[0]
    return ApplicationError(
        f"This request waits in the economy batch {batch_id} (attempt {attempt.attempt_id}), whose answer may take a day."
        " Nothing was sent. Submit it again once that batch has ended: it then finds what was paid.",
        type=WAITS_IN_A_BATCH,
        non_retryable=True,
        category=ApplicationErrorCategory.BENIGN,
    )


def describe_yielding() -> AttemptOutcome:
    """The outcome of an attempt that began at the same moment as another one, and leaves the sending to that."""
    return AttemptOutcome(
        outcome="not_sent",
        finished_at=datetime.now(UTC),
        error_type=STILL_UNDER_WAY,
        error_message="Another attempt of this run began at the same moment.",
    )


async def _show(store: ImageStore, attempt_id: str) -> None:
    count = 0
    while True:
        await asyncio.sleep(SIGN_EVERY.total_seconds())
        count += 1
        # Counted, as a clock may stand still or be set back; the time is for people alone.
        sign = f"{count} {datetime.now(UTC).isoformat()}"
        try:
            await store.put_document(_key(attempt_id), sign.encode())
        except Exception as error:  # noqa: BLE001 - whatever is wrong with a sign must not cost the answer that is paid for
            log.warning("No sign of life could be left.", attempt_id=attempt_id, error=str(error))


def _key(attempt_id: str) -> str:
    return f"alive/{attempt_id}.txt"
