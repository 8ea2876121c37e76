"""Stretches of time: days in UTC, and what has to be asked for so that all of a day's attempts are seen whole. Pure."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

MARGIN = timedelta(minutes=15)
"""More than an attempt may take, so that none of the day's is cut off at midnight."""


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """A stretch of time: `since` is in it, `until` is not."""

    since: datetime
    until: datetime

    def overlaps(self, other: "Stretch") -> bool:
        """Whether some moment is in both."""
        return self.since < other.until and other.since < self.until

    def contains(self, other: "Stretch") -> bool:
        """Whether the other lies in this one."""
        return self.since <= other.since and other.until <= self.until

    def holds(self, moment: datetime) -> bool:
        """Whether the moment is in it."""
        return self.since <= moment < self.until


def stretch_of(day: date) -> Stretch:
    """A day in UTC."""
    midnight = datetime.combine(day, time(), UTC)
    return Stretch(since=midnight, until=midnight + timedelta(days=1))


def stretch_to_ask(day: date) -> Stretch:
    """The time for which attempts and counts are needed to compare a day."""
    whole = stretch_of(day)
    return Stretch(since=whole.since - MARGIN, until=whole.until + MARGIN)
