"""A failed attempt that is told to its run, and what the telling must not do to the attempt."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.provider_call import failure_signal as failure_news
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
    """Takes signals once it is open, or fails."""

    def __init__(self, failure: Exception | None = None, *, is_open: bool = True) -> None:
        self.told: list[FailedAttempt] = []
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
        self.told.append(failed)


async def attempt(
    failure: BaseException,
    run: Run,
    *,
    told: FailureReports | None = None,
    count: int | Exception = 0,
    environment: ActivityEnvironment | None = None,
) -> BaseException:
    """One attempt that fails so: what it ends with."""

    async def count_attempts() -> int:
        if isinstance(count, Exception):
            raise count
        return count

    async def work() -> None:
        async with report_failures(told or FailureReports(), count_attempts):
            raise failure

    environment = environment or ActivityEnvironment(client=run)  # type: ignore[arg-type]  # all that is used of it
    with pytest.raises(type(failure)) as raised:
        await environment.run(work)
    return raised.value


async def test_a_failure_is_told_with_its_facts() -> None:
    """Its type and words, how many attempts have failed and were sent, which one it was, and when the next one comes."""
    run = Run()
    before = datetime.now(UTC)
    assert await attempt(AGAIN, run, told=FailureReports(3, 1, ("RateLimited",))) is AGAIN

    (failed,) = run.told
    assert (failed.error_type, failed.message) == ("RateLimited", "Too much.")
    assert (failed.failures, failed.attempts, failed.attempt_id) == (4, 2, "att_1")
    assert before <= failed.failed_at
    assert failed.tried_again_at == failed.failed_at + timedelta(seconds=9)


@pytest.mark.parametrize(("count", "attempts"), [(3, 3), (LedgerUnavailable("away"), None)])
async def test_a_failure_before_anything_is_sent(count: int | Exception, attempts: int | None) -> None:
    """The ledger says how many were sent; where it is away nothing is said of that, and the rest is told."""
    run = Run()
    assert await attempt(NOTHING_SENT, run, count=count) is NOTHING_SENT

    (failed,) = run.told
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
async def test_what_is_no_news(failure: BaseException) -> None:
    """The last failure, a dispatch that only counts and a cancellation are not told: none of them is waited for."""
    run = Run()
    assert await attempt(failure, run) is failure
    assert run.told == []


async def test_the_same_again_is_no_news() -> None:
    """A failure like the last one that was told is not told again at once."""
    run = Run()
    assert await attempt(AGAIN, run, told=FailureReports(1, 1, ("RateLimited",))) is AGAIN
    assert run.told == []


@pytest.mark.parametrize("leave", ["cancel", "worker_shutdown"])
async def test_nothing_is_told_on_leaving(leave: str) -> None:
    """An attempt that is cancelled, or whose worker stops, fails as it did and tells nothing."""
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
    assert run.told == []


@pytest.mark.parametrize(
    "run", [Run(RuntimeError("the run has ended")), Run(is_open=False)], ids=["refused", "silent"]
)
async def test_a_run_that_cannot_be_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal that is refused or not answered changes nothing about the failure."""
    monkeypatch.setattr(failure_news, "_PATIENCE", timedelta(seconds=0.01))
    monkeypatch.setattr(failure_news, "_COUNT_SECONDS", 0.01)
    assert await attempt(AGAIN, run) is AGAIN
    assert run.reached.is_set()
    assert run.told == []


async def test_a_cancellation_while_it_is_told() -> None:
    """The attempt ends at once, with its own failure: what it said of the provider must not be lost."""
    run = Run(is_open=False)
    environment = ActivityEnvironment(client=run)  # type: ignore[arg-type]  # all that is used of it
    trying = asyncio.create_task(attempt(AGAIN, run, environment=environment))
    await run.reached.wait()
    environment.cancel()
    assert await trying is AGAIN


async def test_a_long_message_is_shortened() -> None:
    """A signal stays small, whatever a failure says."""
    run = Run()
    await attempt(ApplicationError("ä" * 100_000, type="ServerError"), run)
    assert len(run.told[0].message) < 1_100
