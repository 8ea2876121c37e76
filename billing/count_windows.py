"""Which attempts the provider has counted, as far as its counts by the minute can tell. Pure.

The provider counts requests, not ours by name, and does not say whether in the minute in which one began or ended. So each
attempt gets the stretch of time in which it may have been counted, and stretches that overlap make one window. Within a
window the provider's count is what succeeded and whatever of the unknown was carried out: where it is the one or the
other bound, each attempt's fate is known exactly.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from billing.compared_attempts import ComparedAttempt
from billing.stretches import Stretch
from contracts.comparison import Doubt, RequestCount

MINUTE = timedelta(minutes=1)
CLOCK_TOLERANCE = MINUTE
"""How far the provider's clock and ours may differ: far more than clocks do, and no more than its buckets."""
LONGEST_CALL = timedelta(minutes=11)
"""How long a request may be worked on: as long as an attempt may take (see `workflows.policies`)."""


@dataclass
class CountWindow:
    """What a model's attempts and the provider's counts say about the same stretch of time.

    `at_edge` succeeded, and may have been counted before or after the time that the counts were asked for.
    """

    stretch: Stretch
    succeeded: list[ComparedAttempt] = field(default_factory=list)
    at_edge: list[ComparedAttempt] = field(default_factory=list)
    unknown: list[ComparedAttempt] = field(default_factory=list)
    rejected: list[ComparedAttempt] = field(default_factory=list)
    counted: int = 0

    @property
    def doubt(self) -> Doubt:
        """The fate of the unknown attempts, alike for all of them, as nobody can tell one from the other."""
        if self._least >= len(self.unknown):
            return "paid_for_nothing"
        # Counts that lack requests which were answered are not complete yet: they tell nothing of the others either.
        return "perhaps_paid" if self._most else "probably_not_paid"

    @property
    def surplus(self) -> int:
        """Requests counted beyond all that may have been carried out; negative where some that succeeded are not counted."""
        return max(0, self._least - len(self.unknown)) or min(0, self._most)

    @property
    def _most(self) -> int:
        """How many of the unknown attempts may have been counted, were they endless."""
        return self.counted - len(self.succeeded)

    @property
    def _least(self) -> int:
        return self._most - len(self.at_edge)


def find_stretch(attempt: ComparedAttempt) -> Stretch:
    """When the provider may have counted an attempt: whole minutes from when it was sent until it was answered.

    One whose outcome is unknown may have been worked on for long after we heard the last of it.
    """
    longest = attempt.sent_at + LONGEST_CALL
    is_over = attempt.outcome != "unknown" and attempt.finished_at is not None
    end = min(attempt.finished_at or longest, longest) if is_over else longest
    since, until = attempt.sent_at - CLOCK_TOLERANCE, end + CLOCK_TOLERANCE
    return Stretch(since=_floor(since), until=_floor(until) + MINUTE)


def find_windows(
    attempts: Iterable[ComparedAttempt], counts: Iterable[RequestCount], asked: Stretch
) -> tuple[CountWindow, ...]:
    """The windows of one model, the earliest first. `asked` is the time for which the counts are complete."""
    parts: list[tuple[Stretch, ComparedAttempt | int]] = [
        (find_stretch(attempt), attempt) for attempt in attempts
    ]
    parts += [
        (Stretch(since=count.start, until=count.start + MINUTE), count.requests)
        for count in counts
        if count.requests
    ]
    windows: list[CountWindow] = []
    for stretch, part in sorted(parts, key=lambda each: each[0].since):
        if not windows or not windows[-1].stretch.overlaps(stretch):
            windows.append(CountWindow(stretch))
        window = windows[-1]
        until = max(window.stretch.until, stretch.until)
        window.stretch = Stretch(since=window.stretch.since, until=until)
        _put(part, window, is_inside=asked.contains(stretch))
    return tuple(windows)


def _put(part: ComparedAttempt | int, window: CountWindow, *, is_inside: bool) -> None:
    if isinstance(part, int):
        window.counted += part
    elif part.outcome == "unknown":
        window.unknown.append(part)
    elif part.outcome == "succeeded":
        (window.succeeded if is_inside else window.at_edge).append(part)
    else:
        window.rejected.append(part)


def _floor(moment: datetime) -> datetime:
    return moment.replace(second=0, microsecond=0)
