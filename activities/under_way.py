"""Requests that are still under way: a run waits for the answer of an earlier one instead of buying it again.

A run that was terminated and started anew, a workflow that was reset, an attempt that Temporal gave up: each leaves a call
behind that goes on to its end, as hanging up would save nothing. Its worker shows signs of life in the image store.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import structlog
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from billing.attempt_records import Attempt, AttemptOutcome
from imaging.store import ImageStore

STILL_UNDER_WAY = "StillUnderWay"
WAITS_IN_A_BATCH = "WaitsInABatch"
SIGN_EVERY = timedelta(seconds=10)
SILENCE = timedelta(seconds=30)
"""After three signs that did not come the caller is dead, as for Temporal's heartbeats."""
LOOK_AGAIN = timedelta(seconds=3)

log = structlog.get_logger("under_way")


@contextlib.asynccontextmanager
async def signs_of_life(store: ImageStore, attempt_id: str) -> AsyncIterator[None]:
    """Shows that an attempt is under way while the block runs. Its row in the ledger is the first sign."""
    showing = asyncio.create_task(_show(store, attempt_id))
    try:
        yield
    finally:
        showing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await showing


async def wait_for_open_attempts(earlier: tuple[Attempt, ...], store: ImageStore) -> None:
    """Raises an ApplicationError that is tried again soon, while the caller of an open attempt shows signs of life.

    A line of an economy batch has no caller who could: its answer may take a day, and the run is refused until it is there.
    """
    for attempt in earlier:
        if attempt.finished_at is None and attempt.batch_part:
            raise _waits_in_a_batch(attempt)
        if attempt.finished_at is None and datetime.now(UTC) - await _last_sign(attempt, store) < SILENCE:
            raise still_under_way(attempt.number)


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
    while True:
        await asyncio.sleep(SIGN_EVERY.total_seconds())
        try:
            await store.put_document(_key(attempt_id), datetime.now(UTC).isoformat().encode())
        except Exception as error:  # noqa: BLE001 - whatever is wrong with a sign must not cost the answer that is paid for
            log.warning("No sign of life could be left.", attempt_id=attempt_id, error=str(error))


async def _last_sign(attempt: Attempt, store: ImageStore) -> datetime:
    sign = await store.read_document(_key(attempt.attempt_id))
    return attempt.sent_at if sign is None else datetime.fromisoformat(sign.decode())


def _key(attempt_id: str) -> str:
    return f"alive/{attempt_id}.txt"
