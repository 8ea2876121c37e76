"""Which of hundreds of failures are reported to the run."""

from itertools import cycle, islice

from activities.provider_call.retry_state import FailureReports


def list_reported(*kinds: str) -> list[int]:
    """Return the numbers of the failures that are reported, from 1."""
    reports, numbers = FailureReports(), []
    for number, kind in enumerate(kinds, 1):
        reports = reports.count(kind)
        if reports.should_report:
            numbers.append(number)
    return numbers


def test_same_failure_is_reported_each_time_its_number_is_four_times_as_high() -> None:
    assert list_reported(*["ConnectionFailed"] * 300) == [1, 4, 16, 64, 256]


def test_new_kind_of_failure_is_reported_at_once() -> None:
    assert list_reported(*["ConnectionFailed"] * 70, "LedgerUnavailable", *["ConnectionFailed"] * 10) == [
        1,
        4,
        16,
        64,
        71,
    ]


def test_earlier_kind_is_reported_again_after_twice_as_many_failures() -> None:
    assert list_reported("RateLimited", "ConnectionFailed", *["RateLimited"] * 20) == [1, 2, 4, 16]


def test_alternating_kinds_are_reported_about_ten_times_in_300() -> None:
    assert len(list_reported(*islice(cycle(["RateLimited", "ProviderPaused"]), 300))) <= 10
    assert len(list_reported(*islice(cycle("ABC"), 300))) <= 12
