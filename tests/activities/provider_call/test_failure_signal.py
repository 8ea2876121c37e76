"""The signal about a failed attempt, which must not change how the attempt fails."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.provider_call import failure_signal
from activities.provider_call.failure_signal import report_failures
from activities.provider_call.retry_state import FailureReports, dispatch_again
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.result import FailedAttempt
from gpt_image_runs.database.errors import LedgerUnavailable

AGAIN = ApplicationError(
    "Too much.",
    {"attempt_id": "att_1", "attempts": 2},
    type="RateLimited",
    next_retry_delay=timedelta(seconds=9),
)
NOTHING_SENT = ApplicationError("Away.", type="LedgerUnavailable")


class Run:
    """Accepts signals once it is open, or raises `failure`."""

    def __init__(self, failure: Exception | None = None, *, is_open: bool = True) -> None:
        self.signals: list[FailedAttempt] = []
        self.reached = asyncio.Event()
        self.open = asyncio.Event()
        self.failure = failure
        if is_open:
            self.open.set()

    def get_workflow_handle(self, *_: Any, **__: Any) -> "Run":
        return self

    async def signal(self, name: str, failed: FailedAttempt, **_: Any) -> None:
        self.reached.set()
        await self.open.wait()
        if self.failure:
            raise self.failure
        assert name == names.SIGNAL_ATTEMPT_FAILED
        self.signals.append(failed)


async def attempt(
    failure: BaseException,
    run: Run,
    *,
    reports: FailureReports | None = None,
    count: int | Exception = 0,
    environment: ActivityEnvironment | None = None,
) -> BaseException:
    """Run an attempt that raises `failure` and return what it ends with."""

    async def count_attempts() -> int:
        if isinstance(count, Exception):
            raise count
        return count

    async def work() -> None:
        async with report_failures(reports or FailureReports(), count_attempts):
            raise failure

    environment = environment or ActivityEnvironment(client=run)  # type: ignore[arg-type]  # all that is used of it
    with pytest.raises(type(failure)) as raised:
        await environment.run(work)
    return raised.value


async def test_failed_attempt_is_reported_with_its_facts() -> None:
    run = Run()
    before = datetime.now(UTC)
    assert await attempt(AGAIN, run, reports=FailureReports(3, 1, ("RateLimited",))) is AGAIN

    (failed,) = run.signals
    assert (failed.error_type, failed.message) == ("RateLimited", "Too much.")
    assert (failed.failures, failed.attempts, failed.attempt_id) == (4, 2, "att_1")
    assert before <= failed.failed_at
    assert failed.tried_again_at == failed.failed_at + timedelta(seconds=9)


@pytest.mark.parametrize(("count", "attempts"), [(3, 3), (LedgerUnavailable("away"), None)])
async def test_failure_before_sending_is_reported_with_the_ledger_s_count(
    count: int | Exception, attempts: int | None
) -> None:
    run = Run()
    assert await attempt(NOTHING_SENT, run, count=count) is NOTHING_SENT

    (failed,) = run.signals
    assert (failed.message, failed.attempts, failed.attempt_id) == ("Away.", attempts, None)
    assert failed.tried_again_at == failed.failed_at + timedelta(seconds=1)


@pytest.mark.parametrize(
    "failure",
    [
        ApplicationError("Refused.", type="ContentRefused", non_retryable=True),
        dispatch_again(3),
        asyncio.CancelledError(),
    ],
)
async def test_failure_without_a_retry_to_wait_for_is_not_reported(failure: BaseException) -> None:
    """The last failure, a dispatch that only counts, and a cancellation."""
    run = Run()
    assert await attempt(failure, run) is failure
    assert run.signals == []


async def test_same_failure_again_is_not_reported() -> None:
    run = Run()
    assert await attempt(AGAIN, run, reports=FailureReports(1, 1, ("RateLimited",))) is AGAIN
    assert run.signals == []


@pytest.mark.parametrize("leave", ["cancel", "worker_shutdown"])
async def test_cancelled_or_stopping_attempt_reports_nothing(leave: str) -> None:
    run = Run()
    environment = ActivityEnvironment(client=run)  # type: ignore[arg-type]  # all that is used of it

    async def count_attempts() -> int:
        return 0

    async def work() -> None:
        async with report_failures(FailureReports(), count_attempts):
            getattr(environment, leave)()
            raise AGAIN

    with pytest.raises(ApplicationError) as raised:
        await environment.run(work)
    assert raised.value is AGAIN
    assert run.signals == []


@pytest.mark.parametrize(
    "run", [Run(RuntimeError("the run has ended")), Run(is_open=False)], ids=["refused", "silent"]
)
async def test_signal_that_fails_or_hangs_does_not_change_the_failure(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failure_signal, "_PATIENCE", timedelta(seconds=0.01))
    monkeypatch.setattr(failure_signal, "_COUNT_SECONDS", 0.01)
    assert await attempt(AGAIN, run) is AGAIN
    assert run.reached.is_set()
    assert run.signals == []


async def test_cancellation_while_signalling_ends_with_the_attempt_s_failure() -> None:
    """The failure has facts about the provider that must not be lost."""
    run = Run(is_open=False)
    environment = ActivityEnvironment(client=run)  # type: ignore[arg-type]  # all that is used of it
    trying = asyncio.create_task(attempt(AGAIN, run, environment=environment))
    await run.reached.wait()
    environment.cancel()
    assert await trying is AGAIN


async def test_long_message_is_cut_in_the_signal() -> None:
    run = Run()
    await attempt(ApplicationError("ä" * 100_000, type="ServerError"), run)
    assert len(run.signals[0].message) < 1_100
