"""Moments as people type them and read them: UTC throughout."""

from datetime import UTC, datetime
from typing import Annotated

from typer import BadParameter, Option


def parse_moment(text: str) -> datetime:
    """A day (its first moment) or a moment, in UTC unless it says otherwise.

    Raises:
        BadParameter: neither.
    """
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        message = f"{text!a} is no day or moment: write 2026-11-23, or 2026-11-23T14:00:00+01:00."
        raise BadParameter(message) from None


def format_moment(moment: datetime) -> str:
    """A moment for a table: to the second, in UTC."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


Since = Annotated[
    datetime | None, Option(parser=parse_moment, metavar="DAY", help="From this day or moment on (UTC).")
]
Until = Annotated[
    datetime | None, Option(parser=parse_moment, metavar="DAY", help="Before this day or moment (UTC).")
]
