"""What an attempt hands on to the next: six hours of trying without the time in line, and the dispatches that are pending."""

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
    handed: tuple[Any, ...] = (),
    number: int = 1,
    slots: int | None = None,
) -> tuple[ApplicationError, tuple[Any, ...]]:
    """One attempt that fails so: what Temporal is told, and what the next attempt finds."""
    left: list[tuple[Any, ...]] = []

    async def work() -> None:
        with carry_retry_state(load_retry_state(), slots):
            raise (
                failure if isinstance(failure, ApplicationError) else to_application_error(failure, "att_1")
            )

    environment = ActivityEnvironment()
    whole = (*handed, *RetryState().details[len(handed) :]) if len(handed) > 1 else handed
    environment.info = replace(environment.info, heartbeat_details=list(whole), attempt=number)
    environment.on_heartbeat = lambda *details: left.append(details)
    with pytest.raises(ApplicationError) as raised:
        await environment.run(work)
    return raised.value, left[-1]


async def test_time_tried_is_added_up() -> None:
    """An attempt and the pause after it count: a second after the first, a minute after many, what the provider asks for."""
    _, (first, *_) = await attempt(ConnectionFailed())
    assert first == pytest.approx(1, abs=0.5)
    _, (many, *_) = await attempt(ConnectionFailed(), handed=(100.0, 0, [0, 0, []], {"provider": 4999}))
    assert many == pytest.approx(160, abs=0.5)
    _, (told, *_) = await attempt(ServerError(retry_after_seconds=20), handed=(100.0, 0))
    assert 120 <= told <= 126


async def test_six_hours_are_the_end() -> None:
    """After six hours of trying a failure is final, under its own name and with its own words."""
    failure, _ = await attempt(ConnectionFailed(), handed=(5.9 * HOURS, 0), number=300)
    assert not failure.non_retryable
    failure, _ = await attempt(ConnectionFailed(), handed=(6 * HOURS, 0), number=300)
    assert failure.non_retryable
    assert failure.type == "ConnectionFailed"
    assert failure.message == str(ConnectionFailed())


async def test_a_rate_limit_never_ends_a_run() -> None:
    """A 429 is no failure, however long it goes on, and what was tried before it is forgotten."""
    failure, handed = await attempt(RateLimited(http_status=429), handed=(1000 * HOURS, 0), number=9000)
    assert not failure.non_retryable
    assert handed[:2] == (0.0, 0)


@pytest.mark.parametrize(
    ("failure", "pending"), [(RateLimited(), 3), (ServerError(), 3), (ConnectionFailed(), 0)]
)
async def test_what_was_sent_is_owed(failure: ProviderFailure, pending: int) -> None:
    """A request of four pictures that reached the provider owes three dispatches; one that was not sent owes none."""
    assert (await attempt(failure, slots=3))[1][1] == pending


async def test_owed_dispatches_are_paid_before_anything_is_sent() -> None:
    """While dispatches are pending an attempt does nothing, is tried again at once, and its time does not count."""
    failure, handed = await attempt(ServerError(), handed=(50.0, 3), slots=3)
    assert failure.type == TAKING_IMAGE_SLOTS
    assert failure.next_retry_delay == timedelta(milliseconds=1)
    assert handed[:2] == (50.0, 2)
    failure, handed = await attempt(ServerError(), handed=(50.0, 0), slots=3)
    assert failure.type == "ServerError"


async def test_details_that_nobody_knows_count_as_none() -> None:
    """What a worker of another version has left is no reason to fail."""
    for unknown in (("something",), (1.0, 0, "something"), (1.0, 0, [1, 1, []], 5)):
        _, (tried, pending, told, faults) = await attempt(ConnectionFailed(), handed=unknown)
        assert (round(tried), pending, told, faults) == (
            1,
            0,
            (1, 1, ("ConnectionFailed",)),
            {"provider": 1},
        )


async def test_what_the_run_was_told() -> None:
    """How many attempts have failed and what was told of them is handed on; a dispatch that only counts is no failure."""
    told = [3, 1, ["ConnectionFailed"]]
    _, handed = await attempt(ConnectionFailed(), handed=(50.0, 0, told))
    assert handed[2] == (4, 4, ("ConnectionFailed",))
    _, handed = await attempt(RateLimited(), handed=(50.0, 0, told))
    assert handed[2] == (4, 4, ("ConnectionFailed", "RateLimited"))
    _, handed = await attempt(ServerError(), handed=(50.0, 3, told), slots=3)
    assert handed[2] == (3, 1, ("ConnectionFailed",))


def paused() -> ApplicationError:
    """What a call is told while a pause is on."""
    return ApplicationError("wait", type=PROVIDER_PAUSED, next_retry_delay=timedelta(seconds=40))


def away(kind: str) -> ApplicationError:
    """A room of ours that is away."""
    return ApplicationError("away", type=kind)


async def back_off(*failures: ProviderFailure | ApplicationError) -> list[float]:
    """Attempts that fail so one after the other, and the seconds that each is tried again after."""
    handed: tuple[Any, ...] = ()
    delays = []
    for number, each in enumerate(failures, start=1):
        failure, handed = await attempt(each, handed=handed, number=number)
        assert failure.next_retry_delay is not None
        assert failure.type == (each.type if isinstance(each, ApplicationError) else type(each).__name__)
        delays.append(failure.next_retry_delay.total_seconds())
    return delays


async def test_back_off_doubles_up_to_a_minute() -> None:
    """A provider that stays away is asked ever more rarely, whatever is wrong with it."""
    failures = [ConnectionFailed(), ServerError()] * 5
    assert await back_off(*failures) == [1, 2, 4, 8, 16, 32, 60, 60, 60, 60]


async def test_pause_uses_up_no_steps_of_the_back_off() -> None:
    """Whoever was asked to wait twenty times, or waited for another answer, fails as quickly as at first afterwards."""
    waits = [paused(), attempt_in_progress_error(1)] * 10
    assert (await back_off(*waits, ConnectionFailed()))[-1] == 1
    assert (await back_off(ConnectionFailed(), ConnectionFailed(), *waits, ConnectionFailed()))[-1] == 4


async def test_rate_limit_uses_up_no_steps_of_the_back_off() -> None:
    """A 429 without a delay backs off by itself, and says that the provider is there: what failed before it is forgotten."""
    limits = [RateLimited() for _ in range(10)]
    delays = await back_off(*limits, ConnectionFailed())
    assert (delays[:4], delays[-1]) == ([1, 2, 4, 8], 1)
    assert (await back_off(*[ConnectionFailed()] * 8, RateLimited(), ConnectionFailed()))[-1] == 1


@pytest.mark.parametrize("kind", ["LedgerUnavailable", "StoreUnavailable"])
async def test_outage_uses_up_no_steps_of_the_back_off(kind: str) -> None:
    """A ledger or a store that was away for long costs the call no minute once it is back; nor does it the next outage."""
    outage = [away(kind)] * 12
    delays = await back_off(ConnectionFailed(), *outage, ConnectionFailed(), away(kind))
    assert delays[1:8] == [1, 2, 4, 8, 16, 32, 60]
    assert delays[-2:] == [2, 1]
    assert (await back_off(*outage, paused(), away(kind)))[-1] == 1
