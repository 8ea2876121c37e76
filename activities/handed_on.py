"""What an attempt of a call hands on to the next one, in its heartbeat details: how long has been tried, what it owes, and
what its run was told.

Behind a limit a call may wait for days before its first attempt, and for hours between two, while nothing is wrong. So the
six hours of trying are counted by the activity itself, without the time in line. And a request that was sent counted at the
provider whatever came of it, so the next one takes its share of the limit anew: it is dispatched as often
as it asks for pictures, and sends with the last.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass, field, replace
from datetime import timedelta
from typing import Any

from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.image_slots import TAKING_IMAGE_SLOTS, dispatch_again
from activities.shared_pause import PROVIDER_PAUSED
from activities.told_failures import ToldFailures
from activities.under_way import STILL_UNDER_WAY
from imaging.errors import RateLimited
from workflows.policies import CALL_RETRY

TRIED_FOR = timedelta(hours=6)
"""A provider, a store or a ledger that is away for longer needs a person."""
_WAITING = {RateLimited.__name__, PROVIDER_PAUSED, STILL_UNDER_WAY}
"""Not a failure: too much in a minute, by whoever. It sets the time that was tried back."""
_SENT = {"rejected", "unknown"}


@dataclass(frozen=True, slots=True)
class HandedOn:
    """Seconds tried before this attempt, pauses included, the dispatches that it still owes, and what its run was told."""

    tried_seconds: float = 0.0
    owed: int = 0
    told: ToldFailures = field(default_factory=ToldFailures)

    @property
    def details(self) -> tuple[Any, ...]:
        """As heartbeat details."""
        return astuple(self)


def read_handed_on() -> HandedOn:
    """What this attempt has been handed, by the heartbeat details of the last one; nothing where that left none."""
    match list(activity.info().heartbeat_details):
        case [tried_seconds, owed, [failures, last_told, kinds]]:
            return HandedOn(tried_seconds, owed, ToldFailures(failures, last_told, tuple(kinds)))
        case [tried_seconds, owed]:  # an older version's
            return HandedOn(tried_seconds, owed)
        case _:
            return HandedOn()


@contextmanager
def handing_on(given: HandedOn, image_slots: int | None) -> Iterator[None]:
    """Hands on what is left for the next attempt where this one fails, and makes the failure final after `TRIED_FOR`.

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
        next_one = _hand_on(given, failure, image_slots or 0, time.monotonic() - started)
        activity.heartbeat(*next_one.details)
        if failure.non_retryable or next_one.tried_seconds < TRIED_FOR.total_seconds():
            raise
        raise _make_final(failure) from None


def _hand_on(given: HandedOn, failure: ApplicationError, image_slots: int, took_seconds: float) -> HandedOn:
    if failure.type == TAKING_IMAGE_SLOTS:
        return replace(given, owed=given.owed - 1)
    owed = image_slots if _was_sent(failure) else 0
    told = given.told.count(failure.type or "")
    if failure.type in _WAITING:
        return HandedOn(owed=owed, told=told)
    pause = pause_before_next(failure)
    return HandedOn(given.tried_seconds + took_seconds + pause.total_seconds(), owed, told)


def _was_sent(failure: ApplicationError) -> bool:
    """Whether a request reached the provider, by the outcome among the failure's facts."""
    facts = failure.details[0] if failure.details else None
    return isinstance(facts, dict) and facts.get("outcome") in _SENT


def pause_before_next(failure: ApplicationError) -> timedelta:
    """The pause before the next attempt: the failure's own, else the server's."""
    return failure.next_retry_delay or _usual_pause()


def _usual_pause() -> timedelta:
    longest = CALL_RETRY.maximum_interval or CALL_RETRY.initial_interval
    # A power that is surely past the longest pause: of thousands of attempts the number would be no float any more.
    doublings = min(activity.info().attempt - 1, 64)
    seconds = CALL_RETRY.initial_interval.total_seconds() * CALL_RETRY.backoff_coefficient**doublings
    return timedelta(seconds=min(seconds, longest.total_seconds()))


def _make_final(failure: ApplicationError) -> ApplicationError:
    return ApplicationError(
        failure.message,
        *failure.details,
        type=failure.type,
        non_retryable=True,
        category=failure.category,
    )
