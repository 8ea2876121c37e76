"""How long the provider asks to be left alone. Pure: no clock, no sleeping; who waits, and whether, is the caller's."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from random import Random

LONGEST_WAIT_SECONDS = 600.0
"""A longer demand is cut to this: a run that waits for hours looks stuck, and asking again is cheap."""

_JITTER = 0.25
_NUMBER = re.compile(r"\d{1,12}(?:\.\d{1,12})?", re.ASCII)
_DURATION = re.compile(
    r"(\d{1,9}(?:\.\d{1,9})?) ?(ms|milliseconds?|s|seconds?|m|minutes?|h|hours?)(?![a-z])", re.ASCII
)
_TRY_AGAIN = re.compile(rf"(?:try again|retry) (?:in|after) ((?:{_DURATION.pattern} ?)+)", re.ASCII)


def retry_after_seconds(
    headers: Mapping[str, str], message: str, now: datetime, longest: float = LONGEST_WAIT_SECONDS
) -> float | None:
    """The wait that an answer asks for, in seconds from `now`, at most `longest`.

    Looks at `retry-after-ms`, then at `retry-after` (seconds or an HTTP date), then for "try again in 1m3s" in the
    provider's message. What cannot be read or lies in the past counts as not said. Header names in lower case.
    """
    waits = (
        _read_number(headers.get("retry-after-ms", ""), unit_seconds=0.001),
        _read_number(headers.get("retry-after", ""), unit_seconds=1.0),
        _read_date(headers.get("retry-after", ""), now),
        _read_message(message),
    )
    wait = next((wait for wait in waits if wait is not None), None)
    return None if wait is None else min(wait, longest)


def with_jitter(seconds: float, random: Random) -> float:
    """The wait made up to a quarter longer, so that a fleet does not come back at once; never shorter than asked."""
    return seconds * (1 + _JITTER * random.random())


def _read_number(text: str, unit_seconds: float) -> float | None:
    # A pattern rather than float(), which also reads "nan", "inf", "-1" and "1_0".
    number = text.strip(" \t")
    return float(number) * unit_seconds if _NUMBER.fullmatch(number) else None


def _read_date(text: str, now: datetime) -> float | None:
    try:
        date = parsedate_to_datetime(text)
        wait = (date if date.tzinfo else date.replace(tzinfo=UTC)) - now
    except (ValueError, OverflowError):
        return None
    return wait.total_seconds() if wait.total_seconds() >= 0 else None


def _read_message(message: str) -> float | None:
    found = _TRY_AGAIN.search(message.lower())
    if not found:
        return None
    return sum(float(number) * _seconds_of(unit) for number, unit in _DURATION.findall(found[1]))


def _seconds_of(unit: str) -> float:
    if unit.startswith(("ms", "mil")):
        return 0.001
    return {"s": 1.0, "m": 60.0, "h": 3600.0}[unit[0]]
