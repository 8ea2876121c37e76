"""What an attempt of a call hands on to the next one, in its heartbeat details: how long has been tried, what it owes, what
its run was told, and how often it has failed by which fault.

Behind a limit a call may wait for days before its first attempt, and for hours between two, while nothing is wrong. So the
six hours of trying are counted by the activity itself, without the time in line. And a request that was sent counted at the
provider whatever came of it, so the next one takes its share of the limit anew: it is dispatched as often
as it asks for pictures, and sends with the last.

The pause before the next attempt is this activity's too, not the server's: that one counts every attempt alike, so a call that
was asked to wait, or that a ledger away has failed, would be a minute late with everything that comes after.
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
    """Ends with the dispatch that completes `count`.

    Raises:
        ApplicationError: type `TakingImageSlots`, to be tried again at once, before that.
    """
    missing = count - activity.info().attempt
    if missing > 0:
        raise dispatch_again(missing)


def dispatch_again(times: int) -> ApplicationError:
    """The failure of an attempt whose only use is that it was dispatched; so many more follow."""
    return ApplicationError(
        f"Pictures count one by one against the provider's limit: {times} more dispatches are taken.",
        type=TAKING_IMAGE_SLOTS,
        next_retry_delay=_AT_ONCE,
        category=ApplicationErrorCategory.BENIGN,
    )


PROVIDER_PAUSED = "ProviderPaused"
MAX_IN_PLACE_SECONDS = 2.0
"""A call waits so long within its slot. For more it goes back to the server, which dispatches it again within the rate:
calls that had piled up here would all be sent at once."""
_RESET_AFTER_SECONDS = 60.0
_MAX_OF_OURS_SECONDS = 30.0
# A pause that is on is logged again where it becomes longer by that much: 32 calls may be refused at once.
_WORTH_SAYING_SECONDS = 5.0


OnPause = Callable[[str, datetime], None]


def _ignore_pause(_model: str, _until: datetime) -> None:
    """Where nothing is counted."""


class SharedBackoffs:
    """The pauses of one provider's client, by model. `clock` is monotonic.

    `on_pause` is told the model and until when its calls wait, whenever a pause begins or becomes longer.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, on_pause: OnPause = _ignore_pause
    ) -> None:
        self._clock = clock
        self._on_pause = on_pause
        self._by_model: dict[str, SharedBackoff] = {}

    def is_on(self, model: str) -> bool:
        """Whether calls for this model wait now."""
        return model in self._by_model and self._by_model[model].seconds_left > 0

    def extend(self, model: str, seconds: float) -> None:
        """Lets calls for this model wait at least so long from now."""
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
        """Returns once there is no pause for this model. Raises as `SharedBackoff.wait`."""
        if pause := self._by_model.get(model):
            await pause.wait()


class SharedBackoff:
    """One for all calls of a provider's client for one model. `clock` is monotonic."""

    def __init__(self, model: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._model = model
        self._clock = clock
        self._until = clock() - _RESET_AFTER_SECONDS
        self._in_a_row = 0
        self._dice = random.SystemRandom()

    @property
    def seconds_left(self) -> float:
        """How long the pause still lasts."""
        return max(0.0, self._until - self._clock())

    @property
    def goes_on(self) -> bool:
        """Whether the pause lasts, or a refusal now would make the next one longer."""
        return self._clock() - self._until < _RESET_AFTER_SECONDS

    def extend(self, seconds: float) -> None:
        """Lets the pause last at least so long from now; never shortens it.

        Where it goes on within a minute of the last pause, the next is twice as long as asked for, then three times: to
        wait a moment leaves as much asked for in the minute as before, and dispatches that are let pass do not.
        """
        now = self._clock()
        if now >= self._until:  # else it is the answer to a call that was under way already
            self._in_a_row = self._in_a_row + 1 if now - self._until < _RESET_AFTER_SECONDS else 1
        longer = min(seconds * max(1, self._in_a_row), _MAX_OF_OURS_SECONDS)
        self._until = max(self._until, now + max(seconds, longer))

    async def wait(self) -> None:
        """Returns once there is no pause.

        Raises:
            ApplicationError: type `ProviderPaused`, to be tried again when the pause is over, where that is not soon.
        """
        while left := self.seconds_left:
            wait = with_jitter(left, self._dice)
            if left > MAX_IN_PLACE_SECONDS:
                raise ApplicationError(
                    f"The provider has asked this worker to wait with {self._model}, {left:.0f} seconds more;"
                    " nothing was sent.",
                    type=PROVIDER_PAUSED,
                    next_retry_delay=timedelta(seconds=wait),
                    category=ApplicationErrorCategory.BENIGN,
                )
            await asyncio.sleep(wait)


_CHANGED = 2
_SAME = 4


@dataclass(frozen=True, slots=True)
class FailureReports:
    """How many attempts of a call have failed, which of them was the last that was told, and the kinds told, that one's last."""

    failures: int = 0
    last_reported: int = 0
    kinds: tuple[str, ...] = ()

    def count(self, kind: str) -> "FailureReports":
        """As of one more failure, of this kind."""
        number = self.failures + 1
        if kind in self.kinds:
            patience = _SAME if kind == self.kinds[-1] else _CHANGED
            if number < patience * self.last_reported:
                return replace(self, failures=number)
        others = tuple(known for known in self.kinds if known != kind)
        return FailureReports(number, number, (*others, kind))

    @property
    def should_report(self) -> bool:
        """Whether the failure that was counted last is to be told."""
        return self.failures == self.last_reported


MAX_RETRY_TIME = timedelta(hours=6)
"""A provider, a store or a ledger that is away for longer needs a person."""
_WAITING = {RateLimited.__name__, PROVIDER_PAUSED, STILL_UNDER_WAY, INPUT_MEMORY_FULL}
"""Not a failure: too much in a minute, by whoever. It sets the time that was tried back."""
_SENT = {"rejected", "unknown"}
# What faults of the provider are counted under. A rate limit counts for itself: it says that the provider is there.
_OF_PROVIDER = {"provider", RateLimited.__name__}


@dataclass(frozen=True, slots=True)
class RetryState:
    """Seconds tried before this attempt, pauses included, the dispatches that it still owes, what its run was told, and how
    many attempts have failed by each fault since something else was reached.
    """

    elapsed_seconds: float = 0.0
    pending_dispatches: int = 0
    reports: FailureReports = field(default_factory=FailureReports)
    faults: dict[str, int] = field(default_factory=dict)

    @property
    def details(self) -> tuple[Any, ...]:
        """As heartbeat details."""
        return astuple(self)


def load_retry_state() -> RetryState:
    """What this attempt has been handed, by the heartbeat details of the last one; nothing where that left none."""
    match list(activity.info().heartbeat_details):
        case [elapsed_seconds, pending, [failures, last_reported, kinds], dict(faults)]:
            return RetryState(
                elapsed_seconds, pending, FailureReports(failures, last_reported, tuple(kinds)), faults
            )
        case _:
            return RetryState()


@contextmanager
def carry_retry_state(given: RetryState, image_slots: int | None) -> Iterator[None]:
    """Hands on what is left for the next attempt where this one fails, says when that comes, and makes the failure final
    after `MAX_RETRY_TIME`.

    `image_slots` is what a request has taken of the limit beyond its call's own dispatch.

    Raises:
        ApplicationError: type `TakingImageSlots`, instead of the block, while dispatches are owed.
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
    """What the next attempt is handed, and how long it waits before."""
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
    """The pause before the next attempt, as `carry_retry_state` has set it."""
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
