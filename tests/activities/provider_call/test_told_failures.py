"""Which of hundreds of failures a run hears of."""

from itertools import cycle, islice

from activities.provider_call.retry_state import FailureReports


def tell(*kinds: str) -> list[int]:
    """The numbers of the failures that are told, from 1."""
    told, numbers = FailureReports(), []
    for number, kind in enumerate(kinds, 1):
        told = told.count(kind)
        if told.should_report:
            numbers.append(number)
    return numbers


def test_the_same_failure_for_hours() -> None:
    """Of 300 failures of one kind five are told: the first, and always when there were four times as many."""
    assert tell(*["ConnectionFailed"] * 300) == [1, 4, 16, 64, 256]


def test_a_new_kind_is_told_at_once() -> None:
    """Whatever was told before, a kind of failure that is new to the run is told when it comes."""
    assert tell(*["ConnectionFailed"] * 70, "LedgerUnavailable", *["ConnectionFailed"] * 10) == [
        1,
        4,
        16,
        64,
        71,
    ]


def test_what_comes_again_is_told_before_long() -> None:
    """After a blip of another kind the page names the kind that goes on, once it has come twice as often."""
    assert tell("RateLimited", "ConnectionFailed", *["RateLimited"] * 20) == [1, 2, 4, 16]


def test_failures_that_take_turns() -> None:
    """Two or three kinds that take turns for hours are told some ten times in 300."""
    assert len(tell(*islice(cycle(["RateLimited", "ProviderPaused"]), 300))) <= 10
    assert len(tell(*islice(cycle("ABC"), 300))) <= 12
