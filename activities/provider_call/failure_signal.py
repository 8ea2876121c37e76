"""A failed attempt of a call, told to its own run before it is tried again: why the run waits stands on its page then.

Beside the call and never in its way: nothing is tried for long, and whatever fails is a line in the log.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta

import structlog
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.errors import shorten
from activities.provider_call.retry_state import TAKING_IMAGE_SLOTS, FailureReports, pause_before_next
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.result import FailedAttempt

log = structlog.get_logger("failure_news")


_PATIENCE = timedelta(seconds=3)
"""For Temporal. The pause before the next attempt begins only after it."""
_COUNT_SECONDS = 1.0
_MAX_MESSAGE = 2_000
"""Bytes. Ours are shorter: the provider's part of one has at most 1,200."""


@contextlib.asynccontextmanager
async def report_failures(
    told: FailureReports, count_attempts: Callable[[], Awaitable[int]]
) -> AsyncIterator[None]:
    """Tells the activity's own run of the failure that leaves the block, where it is tried again and is news.

    `told` is what was told before, and `count_attempts` how many requests were sent for the run. A run that is cancelled has
    no next attempt, and a worker that stops has no time.
    """
    try:
        yield
    except ApplicationError as failure:
        now = told.count(failure.type or "")
        is_news = now.should_report and failure.type != TAKING_IMAGE_SLOTS
        is_leaving = activity.is_cancelled() or activity.is_worker_shutdown()
        if is_news and not failure.non_retryable and not is_leaving:
            await _tell_in_time(failure, now.failures, count_attempts)
        raise


async def _tell_in_time(
    failure: ApplicationError, failures: int, count_attempts: Callable[[], Awaitable[int]]
) -> None:
    """Returns after some seconds at most, also where the activity is cancelled meanwhile: its failure is its outcome."""
    telling = asyncio.create_task(_tell(failure, failures, count_attempts))
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.wait({telling}, timeout=_COUNT_SECONDS + _PATIENCE.total_seconds())
    telling.cancel()


async def _tell(
    failure: ApplicationError, failures: int, count_attempts: Callable[[], Awaitable[int]]
) -> None:
    info = activity.info()
    try:
        failed = await _describe(failure, failures, count_attempts)
        # This very run: one that was started anew meanwhile does not wait for this.
        run = activity.client().get_workflow_handle(info.workflow_id or "", run_id=info.workflow_run_id)
        await run.signal(names.SIGNAL_ATTEMPT_FAILED, failed, rpc_timeout=_PATIENCE)
    except Exception as error:  # noqa: BLE001 - whatever is wrong with it must not cost the call its own outcome
        log.warning("The run is not told of its failure.", error=f"{type(error).__name__}: {error}")


async def _describe(
    failure: ApplicationError, failures: int, count_attempts: Callable[[], Awaitable[int]]
) -> FailedAttempt:
    now = datetime.now(UTC)
    facts = failure.details[0] if failure.details and isinstance(failure.details[0], dict) else {}
    return FailedAttempt(
        error_type=failure.type or type(failure).__name__,
        message=shorten(failure.message, _MAX_MESSAGE),
        failed_at=now,
        failures=failures,
        attempts=facts.get("attempts") or await _count(count_attempts),
        attempt_id=facts.get("attempt_id"),
        tried_again_at=now + pause_before_next(failure),
    )


async def _count(count_attempts: Callable[[], Awaitable[int]]) -> int | None:
    """None where the ledger does not say, or not soon."""
    try:
        return await asyncio.wait_for(count_attempts(), _COUNT_SECONDS)
    except Exception as error:  # noqa: BLE001 - as above
        log.info("How many requests were sent is not told.", error=f"{type(error).__name__}: {error}")
        return None
