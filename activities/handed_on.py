"""What an attempt of a call hands on to the next one, in its heartbeat details: how long has been tried, what it owes, what
its run was told, and how often it has failed by which fault.

Behind a limit a call may wait for days before its first attempt, and for hours between two, while nothing is wrong. So the
six hours of trying are counted by the activity itself, without the time in line. And a request that was sent counted at the
provider whatever came of it, so the next one takes its share of the limit anew: it is dispatched as often
as it asks for pictures, and sends with the last.

The pause before the next attempt is this activity's too, not the server's: that one counts every attempt alike, so a call that
was asked to wait, or that a ledger away has failed, would be a minute late with everything that comes after.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass, field, replace
from datetime import timedelta
from typing import Any

from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.failures import INPUT_MEMORY_FULL
from activities.image_slots import TAKING_IMAGE_SLOTS, dispatch_again
from activities.shared_pause import PROVIDER_PAUSED
from activities.told_failures import ToldFailures
from activities.under_way import STILL_UNDER_WAY
from imaging.errors import RateLimited
from workflows.policies import CALL_RETRY

TRIED_FOR = timedelta(hours=6)
"""A provider, a store or a ledger that is away for longer needs a person."""
_WAITING = {RateLimited.__name__, PROVIDER_PAUSED, STILL_UNDER_WAY, INPUT_MEMORY_FULL}
"""Not a failure: too much in a minute, by whoever. It sets the time that was tried back."""
_SENT = {"rejected", "unknown"}
# What faults of the provider are counted under. A rate limit counts for itself: it says that the provider is there.
_OF_PROVIDER = {"provider", RateLimited.__name__}


@dataclass(frozen=True, slots=True)
class HandedOn:
    """Seconds tried before this attempt, pauses included, the dispatches that it still owes, what its run was told, and how
    many attempts have failed by each fault since something else was reached.
    """

    tried_seconds: float = 0.0
    owed: int = 0
    told: ToldFailures = field(default_factory=ToldFailures)
    faults: dict[str, int] = field(default_factory=dict)

    @property
    def details(self) -> tuple[Any, ...]:
        """As heartbeat details."""
        return astuple(self)


def read_handed_on() -> HandedOn:
    """What this attempt has been handed, by the heartbeat details of the last one; nothing where that left none."""
    match list(activity.info().heartbeat_details):
        case [tried_seconds, owed, [failures, last_told, kinds], dict(faults)]:
            return HandedOn(tried_seconds, owed, ToldFailures(failures, last_told, tuple(kinds)), faults)
        case [tried_seconds, owed, [failures, last_told, kinds]]:  # an older version's
            return HandedOn(tried_seconds, owed, ToldFailures(failures, last_told, tuple(kinds)))
        case [tried_seconds, owed]:  # an even older one's
            return HandedOn(tried_seconds, owed)
        case _:
            return HandedOn()


@contextmanager
def handing_on(given: HandedOn, image_slots: int | None) -> Iterator[None]:
    """Hands on what is left for the next attempt where this one fails, says when that comes, and makes the failure final
    after `TRIED_FOR`.

    `image_slots` is what a request has taken of the limit beyond its call's own dispatch.

    Raises:
        ApplicationError: type `TakingImageSlots`, instead of the block, while dispatches are owed.
    """
    started = time.monotonic()
    try:
        if given.owed:
            raise dispatch_again(given.owed)
        yield
    except ApplicationError as failure:
        next_one, pause = _hand_on(given, failure, image_slots or 0, time.monotonic() - started)
        activity.heartbeat(*next_one.details)
        if failure.non_retryable:
            raise
        if next_one.tried_seconds >= TRIED_FOR.total_seconds():
            raise _copy(failure, non_retryable=True) from None
        if failure.next_retry_delay is not None:
            raise
        raise _copy(failure, next_retry_delay=pause) from None


def _hand_on(
    given: HandedOn, failure: ApplicationError, image_slots: int, took_seconds: float
) -> tuple[HandedOn, timedelta]:
    """What the next attempt is handed, and how long it waits before."""
    if failure.type == TAKING_IMAGE_SLOTS:
        return replace(given, owed=given.owed - 1), timedelta()
    owed = image_slots if _was_sent(failure) else 0
    told = given.told.count(failure.type or "")
    faults, in_a_row = _count_fault(given.faults, failure)
    pause = failure.next_retry_delay or _back_off(in_a_row)
    if failure.type in _WAITING:
        return HandedOn(owed=owed, told=told, faults=faults), pause
    tried_seconds = given.tried_seconds + took_seconds + pause.total_seconds()
    return HandedOn(tried_seconds, owed, told, faults), pause


def _count_fault(given: dict[str, int], failure: ApplicationError) -> tuple[dict[str, int], int]:
    """The counts with this failure, and its own. What lies before what has failed now has worked: its count is forgotten."""
    of_provider = {name: count for name, count in given.items() if name in _OF_PROVIDER}
    if failure.type in _WAITING - {RateLimited.__name__}:
        return of_provider, 0
    if _is_of_provider(failure):
        name = failure.type if failure.type == RateLimited.__name__ else "provider"
        count = given.get(name, 0) + 1
        return {name: count}, count
    name = failure.type or ""
    count = given.get(name, 0) + 1
    return {**given, name: count}, count


def _is_of_provider(failure: ApplicationError) -> bool:
    facts = failure.details[0] if failure.details else None
    return isinstance(facts, dict) and "outcome" in facts


def _was_sent(failure: ApplicationError) -> bool:
    """Whether a request reached the provider, by the outcome among the failure's facts."""
    facts = failure.details[0] if failure.details else None
    return isinstance(facts, dict) and facts.get("outcome") in _SENT


def pause_before_next(failure: ApplicationError) -> timedelta:
    """The pause before the next attempt, as `handing_on` has set it."""
    return failure.next_retry_delay or CALL_RETRY.initial_interval


def _back_off(failures_in_a_row: int) -> timedelta:
    """The pause after so many failures by the same fault."""
    longest = CALL_RETRY.maximum_interval or CALL_RETRY.initial_interval
    # A power that is surely past the longest pause: 2**n overflows a float after about a thousand failures.
    doublings = min(max(failures_in_a_row - 1, 0), 64)
    seconds = CALL_RETRY.initial_interval.total_seconds() * CALL_RETRY.backoff_coefficient**doublings
    return timedelta(seconds=min(seconds, longest.total_seconds()))


def _copy(
    failure: ApplicationError, *, non_retryable: bool = False, next_retry_delay: timedelta | None = None
) -> ApplicationError:
    return ApplicationError(
        failure.message,
        *failure.details,
        type=failure.type,
        non_retryable=non_retryable,
        next_retry_delay=next_retry_delay,
        category=failure.category,
    )
