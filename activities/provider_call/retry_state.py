"""Pass state from one attempt of a call to the next, in heartbeat details, and back off for all calls of a model.

Behind a rate limit a call may wait for days before its first attempt, and for hours between two, without any error. So
the activity counts the six hours of retries itself, without the time in the queue. A request that was sent counts against
the provider's limit whatever its outcome, so the next attempt takes its share of the limit again: it is dispatched once
for each image, and sends with the last dispatch.

The activity also sets the delay before the next attempt. The server's own back-off counts every attempt alike, so a call
that was asked to wait, or that failed because the ledger was unavailable, would later be retried a minute too late.
"""

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from activities.errors import INPUT_MEMORY_FULL
from activities.provider_call.earlier_attempts import STILL_UNDER_WAY
from gpt_image_runs.contracts import names
from gpt_image_runs.provider.error_mapping import with_jitter
from gpt_image_runs.provider.errors import RateLimited
from workflows.retry_policies import CALL_RETRY

log = structlog.get_logger("shared_pause")


TAKING_IMAGE_SLOTS = "TakingImageSlots"
_AT_ONCE = timedelta(milliseconds=1)


@activity.defn(name=names.TAKE_IMAGE_SLOTS)
async def take_image_slots(count: int) -> None:
    """Complete with dispatch number `count`.

    Raises:
        ApplicationError: type `TakingImageSlots`, retried at once, on each dispatch before.
    """
    missing = count - activity.info().attempt
    if missing > 0:
        raise dispatch_again(missing)


def dispatch_again(times: int) -> ApplicationError:
    """Return the failure of an attempt that only takes a dispatch of the limit; `times` more follow."""
    return ApplicationError(
        f"Each image counts against the provider's limit: {times} more dispatches follow before the request is sent.",
        type=TAKING_IMAGE_SLOTS,
        next_retry_delay=_AT_ONCE,
        category=ApplicationErrorCategory.BENIGN,
    )


PROVIDER_PAUSED = "ProviderPaused"
# A call waits this long within its slot. If more is left it goes back to the server, which dispatches it again within the
# rate limit: calls that piled up here would all be sent at once.
MAX_IN_PLACE_SECONDS = 2.0
_RESET_AFTER_SECONDS = 60.0
_MAX_OF_OURS_SECONDS = 30.0
# A pause in progress is logged again if it is extended by this much: 32 calls may be refused at once.
_WORTH_SAYING_SECONDS = 5.0


OnPause = Callable[[str, datetime], None]


def _ignore_pause(_model: str, _until: datetime) -> None:
    pass


class SharedBackoffs:
    """The pauses of one provider's client, by model. `clock` is monotonic.

    `on_pause` is called with the model and the end of its pause whenever a pause begins or is extended.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, on_pause: OnPause = _ignore_pause
    ) -> None:
        self._clock = clock
        self._on_pause = on_pause
        self._by_model: dict[str, SharedBackoff] = {}

    def is_on(self, model: str) -> bool:
        """Return whether calls for this model have to wait now."""
        return model in self._by_model and self._by_model[model].seconds_left > 0

    def extend(self, model: str, seconds: float) -> None:
        """Make calls for this model wait at least this long from now."""
        self._by_model = {name: pause for name, pause in self._by_model.items() if pause.goes_on}
        pause = self._by_model.setdefault(model, SharedBackoff(model, self._clock))
        before = pause.seconds_left
        pause.extend(seconds)
        longer = pause.seconds_left - before
        if longer <= 0:
            return
        until = datetime.now(UTC) + timedelta(seconds=pause.seconds_left)
        self._on_pause(model, until)
        if not before or longer >= _WORTH_SAYING_SECONDS:
            log.warning(
                "provider_paused",
                model=model,
                seconds=round(pause.seconds_left, 1),
                until=until.isoformat(timespec="seconds"),
            )

    async def wait(self, model: str) -> None:
        """Wait until no pause is on for this model. Raises as `SharedBackoff.wait`."""
        if pause := self._by_model.get(model):
            await pause.wait()


class SharedBackoff:
    """The pause of all calls of a provider's client for one model. `clock` is monotonic."""

    def __init__(self, model: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._model = model
        self._clock = clock
        self._until = clock() - _RESET_AFTER_SECONDS
        self._in_a_row = 0
        self._dice = random.SystemRandom()

    @property
    def seconds_left(self) -> float:
        """Seconds until the pause ends, 0 without one."""
        return max(0.0, self._until - self._clock())

    @property
    def goes_on(self) -> bool:
        """True while the pause lasts, and as long after it as a refusal would make the next one longer."""
        return self._clock() - self._until < _RESET_AFTER_SECONDS

    def extend(self, seconds: float) -> None:
        """Extend the pause to at least this long from now; never shorten it.

        A pause within a minute of the last one is twice as long as asked for, then three times, up to 30 seconds: after a
        short pause just as many requests follow in the same minute, and most of them are refused again.
        """
        now = self._clock()
        if now >= self._until:  # otherwise this call was in flight when the pause began
            self._in_a_row = self._in_a_row + 1 if now - self._until < _RESET_AFTER_SECONDS else 1
        longer = min(seconds * max(1, self._in_a_row), _MAX_OF_OURS_SECONDS)
        self._until = max(self._until, now + max(seconds, longer))

    async def wait(self) -> None:
        """Wait until no pause is on.

        Raises:
            ApplicationError: type `ProviderPaused`, retried when the pause is over, if that is not within two seconds.
        """
        while left := self.seconds_left:
            wait = with_jitter(left, self._dice)
            if left > MAX_IN_PLACE_SECONDS:
                raise ApplicationError(
                    f"The provider asked this worker to wait before it sends more requests for {self._model}:"
                    f" {left:.0f} seconds are left. Nothing was sent.",
                    type=PROVIDER_PAUSED,
                    next_retry_delay=timedelta(seconds=wait),
                    category=ApplicationErrorCategory.BENIGN,
                )
            await asyncio.sleep(wait)


# A kind of failure that was reported before is reported again once there were this many times as many failures: fewer if
# another kind was reported since.
_CHANGED = 2
_SAME = 4


@dataclass(frozen=True, slots=True)
class FailureReports:
    """Track which failed attempts were reported to the run.

    `last_reported` is the number of the failure reported last, and `kinds` are all types reported, the last one's at the end.
    """

    failures: int = 0
    last_reported: int = 0
    kinds: tuple[str, ...] = ()

    def count(self, kind: str) -> "FailureReports":
        """Count one more failure, of this type."""
        number = self.failures + 1
        if kind in self.kinds:
            patience = _SAME if kind == self.kinds[-1] else _CHANGED
            if number < patience * self.last_reported:
                return replace(self, failures=number)
        others = tuple(known for known in self.kinds if known != kind)
        return FailureReports(number, number, (*others, kind))

    @property
    def should_report(self) -> bool:
        """True if the failure that was counted last is to be reported."""
        return self.failures == self.last_reported


# An outage of the provider, the store or the ledger that lasts longer needs a person.
MAX_RETRY_TIME = timedelta(hours=6)
# Reasons to wait, not failures. They reset the elapsed retry time.
_WAITING = {RateLimited.__name__, PROVIDER_PAUSED, STILL_UNDER_WAY, INPUT_MEMORY_FULL}
_SENT = {"rejected", "unknown"}
# The keys that the provider's faults are counted under. A rate limit has its own, as it shows that the provider is up.
_OF_PROVIDER = {"provider", RateLimited.__name__}


@dataclass(frozen=True, slots=True)
class RetryState:
    """The state that an attempt of a call receives from the one before.

    `elapsed_seconds` are the seconds of retries so far, pauses included. `pending_dispatches` have to be taken before the
    next request is sent. `faults` counts the consecutive failures of each kind.
    """

    elapsed_seconds: float = 0.0
    pending_dispatches: int = 0
    reports: FailureReports = field(default_factory=FailureReports)
    faults: dict[str, int] = field(default_factory=dict)

    @property
    def details(self) -> tuple[Any, ...]:
        """The state as heartbeat details."""
        return astuple(self)


def load_retry_state() -> RetryState:
    """Read the state from the last attempt's heartbeat details. It is empty if they cannot be read."""
    match list(activity.info().heartbeat_details):
        case [elapsed_seconds, pending, [failures, last_reported, kinds], dict(faults)]:
            return RetryState(
                elapsed_seconds, pending, FailureReports(failures, last_reported, tuple(kinds)), faults
            )
        case _:
            return RetryState()


@contextmanager
def carry_retry_state(given: RetryState, image_slots: int | None) -> Iterator[None]:
    """Pass on the state if the block fails, and set the delay before the next attempt.

    The error is not retryable after `MAX_RETRY_TIME`. `image_slots` is how many dispatches a request takes beyond its call's own.

    Raises:
        ApplicationError: type `TakingImageSlots`, instead of the block, while dispatches are pending.
    """
    started = time.monotonic()
    try:
        if given.pending_dispatches:
            raise dispatch_again(given.pending_dispatches)
        yield
    except ApplicationError as failure:
        state, pause = _next_state(given, failure, image_slots or 0, time.monotonic() - started)
        activity.heartbeat(*state.details)
        if failure.non_retryable:
            raise
        if state.elapsed_seconds >= MAX_RETRY_TIME.total_seconds():
            raise _copy(failure, non_retryable=True) from None
        if failure.next_retry_delay is not None:
            raise
        raise _copy(failure, next_retry_delay=pause) from None


def _next_state(
    given: RetryState, failure: ApplicationError, image_slots: int, took_seconds: float
) -> tuple[RetryState, timedelta]:
    if failure.type == TAKING_IMAGE_SLOTS:
        return replace(given, pending_dispatches=given.pending_dispatches - 1), timedelta()
    pending = image_slots if _was_sent(failure) else 0
    reports = given.reports.count(failure.type or "")
    faults, in_a_row = _count_fault(given.faults, failure)
    pause = failure.next_retry_delay or _back_off(in_a_row)
    if failure.type in _WAITING:
        return RetryState(pending_dispatches=pending, reports=reports, faults=faults), pause
    elapsed_seconds = given.elapsed_seconds + took_seconds + pause.total_seconds()
    return RetryState(elapsed_seconds, pending, reports, faults), pause


def _count_fault(given: dict[str, int], failure: ApplicationError) -> tuple[dict[str, int], int]:
    """Return the counts including this failure, and its own count.

    Whatever an attempt does before the step that failed has worked, so the count of that is reset.
    """
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
    facts = failure.details[0] if failure.details else None
    return isinstance(facts, dict) and facts.get("outcome") in _SENT


def pause_before_next(failure: ApplicationError) -> timedelta:
    """Return the delay before the next attempt that `carry_retry_state` has set."""
    return failure.next_retry_delay or CALL_RETRY.initial_interval


def _back_off(failures_in_a_row: int) -> timedelta:
    longest = CALL_RETRY.maximum_interval or CALL_RETRY.initial_interval
    # Cap the exponent: 2**n overflows a float after about a thousand failures.
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
