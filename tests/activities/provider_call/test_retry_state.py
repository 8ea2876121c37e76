"""What an attempt passes to the next: elapsed retry time, pending dispatches, reports, and counts of faults."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.errors import to_application_error
from activities.provider_call.earlier_attempts import attempt_in_progress_error
from activities.provider_call.retry_state import (
    PROVIDER_PAUSED,
    TAKING_IMAGE_SLOTS,
    RetryState,
    carry_retry_state,
    load_retry_state,
)
from gpt_image_runs.provider.errors import ConnectionFailed, ProviderFailure, RateLimited, ServerError

HOURS = 3600.0


async def attempt(
    failure: ProviderFailure | ApplicationError,
    *,
    received: tuple[Any, ...] = (),
    number: int = 1,
    slots: int | None = None,
) -> tuple[ApplicationError, tuple[Any, ...]]:
    """Run an attempt that fails. Return its error and the details that the next attempt receives."""
    beats: list[tuple[Any, ...]] = []

    async def work() -> None:
        with carry_retry_state(load_retry_state(), slots):
            raise (
                failure if isinstance(failure, ApplicationError) else to_application_error(failure, "att_1")
            )

    environment = ActivityEnvironment()
    whole = (*received, *RetryState().details[len(received) :]) if len(received) > 1 else received
    environment.info = replace(environment.info, heartbeat_details=list(whole), attempt=number)
    environment.on_heartbeat = lambda *details: beats.append(details)
    with pytest.raises(ApplicationError) as raised:
        await environment.run(work)
    return raised.value, beats[-1]


async def test_elapsed_time_includes_the_pauses() -> None:
    """A second after the first failure, a minute after many, or what the provider asks for."""
    _, (first, *_) = await attempt(ConnectionFailed())
    assert first == pytest.approx(1, abs=0.5)
    _, (many, *_) = await attempt(ConnectionFailed(), received=(100.0, 0, [0, 0, []], {"provider": 4999}))
    assert many == pytest.approx(160, abs=0.5)
    _, (told, *_) = await attempt(ServerError(retry_after_seconds=20), received=(100.0, 0))
    assert 120 <= told <= 126


async def test_failure_after_six_hours_is_not_retried() -> None:
    failure, _ = await attempt(ConnectionFailed(), received=(5.9 * HOURS, 0), number=300)
    assert not failure.non_retryable
    failure, _ = await attempt(ConnectionFailed(), received=(6 * HOURS, 0), number=300)
    assert failure.non_retryable
    assert failure.type == "ConnectionFailed"
    assert failure.message == str(ConnectionFailed())


async def test_rate_limit_never_ends_a_run_and_resets_the_elapsed_time() -> None:
    failure, passed = await attempt(RateLimited(http_status=429), received=(1000 * HOURS, 0), number=9000)
    assert not failure.non_retryable
    assert passed[:2] == (0.0, 0)


@pytest.mark.parametrize(
    ("failure", "pending"), [(RateLimited(), 3), (ServerError(), 3), (ConnectionFailed(), 0)]
)
async def test_request_that_reached_the_provider_leaves_pending_dispatches(
    failure: ProviderFailure, pending: int
) -> None:
    assert (await attempt(failure, slots=3))[1][1] == pending


async def test_pending_dispatches_come_before_the_next_request() -> None:
    """Such an attempt does nothing, is retried at once, and its time does not count."""
    failure, passed = await attempt(ServerError(), received=(50.0, 3), slots=3)
    assert failure.type == TAKING_IMAGE_SLOTS
    assert failure.next_retry_delay == timedelta(milliseconds=1)
    assert passed[:2] == (50.0, 2)
    failure, passed = await attempt(ServerError(), received=(50.0, 0), slots=3)
    assert failure.type == "ServerError"


async def test_unreadable_details_are_ignored() -> None:
    """A worker of another version may have left them."""
    for unknown in (("something",), (1.0, 0, "something"), (1.0, 0, [1, 1, []], 5)):
        _, (elapsed, pending, reports, faults) = await attempt(ConnectionFailed(), received=unknown)
        assert (round(elapsed), pending, reports, faults) == (
            1,
            0,
            (1, 1, ("ConnectionFailed",)),
            {"provider": 1},
        )


async def test_reports_are_passed_on() -> None:
    """A dispatch that only counts is not a failure."""
    reports = [3, 1, ["ConnectionFailed"]]
    _, passed = await attempt(ConnectionFailed(), received=(50.0, 0, reports))
    assert passed[2] == (4, 4, ("ConnectionFailed",))
    _, passed = await attempt(RateLimited(), received=(50.0, 0, reports))
    assert passed[2] == (4, 4, ("ConnectionFailed", "RateLimited"))
    _, passed = await attempt(ServerError(), received=(50.0, 3, reports), slots=3)
    assert passed[2] == (3, 1, ("ConnectionFailed",))


def paused() -> ApplicationError:
    """Return the error of a call while a pause is on."""
    return ApplicationError("wait", type=PROVIDER_PAUSED, next_retry_delay=timedelta(seconds=40))


def away(kind: str) -> ApplicationError:
    """Return the error of an outage."""
    return ApplicationError("away", type=kind)


async def back_off(*failures: ProviderFailure | ApplicationError) -> list[float]:
    """Run attempts that fail one after the other. Return the seconds before each retry."""
    received: tuple[Any, ...] = ()
    delays = []
    for number, each in enumerate(failures, start=1):
        failure, received = await attempt(each, received=received, number=number)
        assert failure.next_retry_delay is not None
        assert failure.type == (each.type if isinstance(each, ApplicationError) else type(each).__name__)
        delays.append(failure.next_retry_delay.total_seconds())
    return delays


async def test_back_off_doubles_up_to_a_minute() -> None:
    failures = [ConnectionFailed(), ServerError()] * 5
    assert await back_off(*failures) == [1, 2, 4, 8, 16, 32, 60, 60, 60, 60]


async def test_pause_does_not_advance_the_back_off() -> None:
    waits = [paused(), attempt_in_progress_error(1)] * 10
    assert (await back_off(*waits, ConnectionFailed()))[-1] == 1
    assert (await back_off(ConnectionFailed(), ConnectionFailed(), *waits, ConnectionFailed()))[-1] == 4


async def test_rate_limit_resets_the_back_off_of_other_faults() -> None:
    """It has its own back-off, and shows that the provider is up."""
    limits = [RateLimited() for _ in range(10)]
    delays = await back_off(*limits, ConnectionFailed())
    assert (delays[:4], delays[-1]) == ([1, 2, 4, 8], 1)
    assert (await back_off(*[ConnectionFailed()] * 8, RateLimited(), ConnectionFailed()))[-1] == 1


@pytest.mark.parametrize("kind", ["LedgerUnavailable", "StoreUnavailable"])
async def test_outage_does_not_advance_the_back_off_of_later_faults(kind: str) -> None:
    outage = [away(kind)] * 12
    delays = await back_off(ConnectionFailed(), *outage, ConnectionFailed(), away(kind))
    assert delays[1:8] == [1, 2, 4, 8, 16, 32, 60]
    assert delays[-2:] == [2, 1]
    assert (await back_off(*outage, paused(), away(kind)))[-1] == 1
