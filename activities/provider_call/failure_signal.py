"""Report a failed attempt of a call to its run before the retry, so that the run's page shows why it waits.

Reporting never delays or fails the call: it gives up after seconds, and an error is only logged.
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

log = structlog.get_logger("failure_signal")


# For the signal. The delay before the next attempt begins only after it.
_PATIENCE = timedelta(seconds=3)
_COUNT_SECONDS = 1.0
# Bytes. Our own messages are shorter: the provider's part of one has at most 1,200.
_MAX_MESSAGE = 2_000


@contextlib.asynccontextmanager
async def report_failures(
    reports: FailureReports, count_attempts: Callable[[], Awaitable[int]]
) -> AsyncIterator[None]:
    """Signal the activity's run about a failure of the block that is retried, unless a similar one was reported before.

    `reports` are the earlier reports, and `count_attempts` returns how many requests were sent for the run. Nothing is
    reported if the run is cancelled, as it has no next attempt, or if the worker stops, as it has no time.
    """
    try:
        yield
    except ApplicationError as failure:
        now = reports.count(failure.type or "")
        is_new = now.should_report and failure.type != TAKING_IMAGE_SLOTS
        is_leaving = activity.is_cancelled() or activity.is_worker_shutdown()
        if is_new and not failure.non_retryable and not is_leaving:
            await _report_in_time(failure, now.failures, count_attempts)
        raise


async def _report_in_time(
    failure: ApplicationError, failures: int, count_attempts: Callable[[], Awaitable[int]]
) -> None:
    # Returns after seconds even if the activity is cancelled meanwhile: its failure is its outcome.
    reporting = asyncio.create_task(_report(failure, failures, count_attempts))
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.wait({reporting}, timeout=_COUNT_SECONDS + _PATIENCE.total_seconds())
    reporting.cancel()


async def _report(
    failure: ApplicationError, failures: int, count_attempts: Callable[[], Awaitable[int]]
) -> None:
    info = activity.info()
    try:
        failed = await _build_failed_attempt(failure, failures, count_attempts)
        # Only this execution: one that was started since does not wait for this call.
        run = activity.client().get_workflow_handle(info.workflow_id or "", run_id=info.workflow_run_id)
        await run.signal(names.SIGNAL_ATTEMPT_FAILED, failed, rpc_timeout=_PATIENCE)
    except Exception as error:  # noqa: BLE001 - no error here may replace the call's own outcome
        log.warning("failure_signal_failed", error=f"{type(error).__name__}: {error}")


async def _build_failed_attempt(
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
    """Return how many requests were sent, None if the ledger does not answer within a second."""
    try:
        return await asyncio.wait_for(count_attempts(), _COUNT_SECONDS)
    except Exception as error:  # noqa: BLE001 - as above
        log.info("attempts_not_counted", error=f"{type(error).__name__}: {error}")
        return None
