"""Parse and format dates and times. UTC throughout."""

import re
from datetime import MAXYEAR, MINYEAR, UTC, date, datetime, timedelta
from typing import Annotated, NamedTuple

from typer import BadParameter, Option


def parse_moment(text: str) -> datetime:
    """Parse a day (its first moment) or a time, in UTC unless it has an offset.

    Raises:
        BadParameter: it is neither.
    """
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        message = f"{text!a} is not a valid day or time. Use 2026-11-23, or 2026-11-23T14:00:00+01:00."
        raise BadParameter(message) from None


def format_moment(moment: datetime) -> str:
    """Format a time for a table: to the second, in UTC."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


Since = Annotated[
    datetime | None, Option(parser=parse_moment, metavar="DAY", help="From this day or time on (UTC).")
]
Until = Annotated[
    datetime | None, Option(parser=parse_moment, metavar="DAY", help="Before this day or time (UTC).")
]


_MONTH = re.compile(r"(\d{4})-(\d{2})", re.ASCII)
_LAST_MONTH = 12


class Month(NamedTuple):
    """A calendar month in UTC."""

    year: int
    number: int

    def __str__(self) -> str:
        return f"{self.year:04}-{self.number:02}"

    @property
    def name(self) -> str:
        """The month as a title: "November 2026"."""
        return f"{self.since:%B} {self.year}"

    @property
    def since(self) -> datetime:
        """Its first moment."""
        return datetime(self.year, self.number, 1, tzinfo=UTC)

    @property
    def until(self) -> datetime:
        """The first moment after it."""
        return datetime(self.year + self.number // _LAST_MONTH, self.number % _LAST_MONTH + 1, 1, tzinfo=UTC)

    @property
    def days(self) -> tuple[date, ...]:
        """Every day of the month."""
        count = (self.until - self.since).days
        return tuple(self.since.date() + timedelta(days=number) for number in range(count))


def parse_month(text: str) -> Month:
    """Parse a month such as 2026-11.

    Raises:
        BadParameter: it is not a month.
    """
    found = _MONTH.fullmatch(text)
    year, number = map(int, found.groups()) if found else (0, 0)
    # The last year has no moment after it.
    if not MINYEAR <= year < MAXYEAR or not 1 <= number <= _LAST_MONTH:
        raise BadParameter(f"{text!a} is not a valid month. Use YYYY-MM, for example 2026-11.")
    return Month(year, number)
