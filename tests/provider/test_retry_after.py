"""Waits that the provider asks for."""

from datetime import UTC, datetime
from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gpt_image_runs.provider.error_mapping import retry_after_seconds, with_jitter

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "message", "seconds"),
    [
        ({}, "", None),
        ({"retry-after-ms": "1500"}, "", 1.5),
        ({"retry-after": "7"}, "", 7.0),
        ({"retry-after": " 0.5 "}, "", 0.5),
        ({"retry-after": "0"}, "", 0.0),
        ({"retry-after-ms": "250", "retry-after": "7"}, "Please try again in 9s.", 0.25),
        ({"retry-after-ms": "soon", "retry-after": "7"}, "", 7.0),
        ({"retry-after": "Mon, 23 Nov 2026 12:01:30 GMT"}, "", 90.0),
        ({"retry-after": "Mon, 23 Nov 2026 13:00:30 +0100"}, "", 30.0),
        ({"retry-after": "Mon, 23 Nov 2026 12:00:20 -0000"}, "", 20.0),
        ({"retry-after": "Mon, 23 Nov 2026 11:59:59 GMT"}, "", None),
        ({"retry-after": "Mon, 23 Nov 2026 13:00:00 GMT"}, "", 600.0),
        ({"retry-after": "86400"}, "", 600.0),
        ({"retry-after": "soon"}, "Limit 5, Used 5. Please try again in 1.2s.", 1.2),
        ({}, "Please try again in 20ms. Visit our pages", 0.02),
        ({}, "Please try again in 1m3s.", 63.0),
        ({}, "Please try again in 6m0s", 360.0),
        ({}, "Please try again in 1h2m.", 600.0),
        ({}, "Please retry after 26 seconds.", 26.0),
        ({}, "Try again in 5 milliseconds", 0.005),
        ({}, "try again in a moment", None),
        ({}, "try again in 3 months", None),
    ],
)
def test_a_wait_is_read_from_the_first_place_that_states_one(
    headers: dict[str, str], message: str, seconds: float | None
) -> None:
    """Milliseconds go before seconds, dates before the message, and no demand is longer than ten minutes."""
    assert retry_after_seconds(headers, message, NOW) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize("date", ["Mon, 30 Nov 2026 12:00:00 GMT", "Thu, 05 Nov 2026 12:00:00 -0000"])
def test_date_is_read_against_the_date_of_the_answer(date: str) -> None:
    """This host's clock is weeks behind or ahead: the wait is what the provider's own clock says."""
    headers = {"date": date, "retry-after": date.replace("12:00:00", "12:00:07")}
    assert retry_after_seconds(headers, "", NOW) == pytest.approx(7.0)


def test_unreadable_date_of_the_answer_leaves_the_clock_of_this_host() -> None:
    headers = {"date": "soon", "retry-after": "Mon, 23 Nov 2026 12:01:30 GMT"}
    assert retry_after_seconds(headers, "", NOW) == pytest.approx(90.0)


@pytest.mark.parametrize("garbage", ["-1", "nan", "inf", "-inf", "1e3", "1_0", "", "٣", "9" * 400, "1;2"])
def test_unreadable_wait_is_ignored(garbage: str) -> None:
    """What Python would read as a number but HTTP does not mean is no wait."""
    assert retry_after_seconds({"retry-after": garbage, "retry-after-ms": garbage}, "", NOW) is None


@example("", "0\x1f", "")
@given(st.text(), st.text(), st.text())
def test_any_header_and_message_is_parsed(milliseconds: str, seconds: str, message: str) -> None:
    """Whatever a gateway writes, the answer is None or a wait from 0 to 600 seconds."""
    headers = {"retry-after-ms": milliseconds, "retry-after": seconds}
    wait = retry_after_seconds(headers, f"try again in {message}", NOW)
    assert wait is None or 0 <= wait <= 600


def test_jitter_makes_a_wait_longer_by_up_to_a_quarter_and_never_shorter() -> None:
    """A fleet that was told the same wait comes back spread out, none of it too early."""
    random = Random(20261123)
    waits = [with_jitter(8.0, random) for _ in range(200)]
    assert all(8.0 <= wait <= 10.0 for wait in waits)
    assert max(waits) - min(waits) > 1.0
