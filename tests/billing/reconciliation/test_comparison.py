"""A day beside the provider's books: what counts by the minute tell of each attempt, and what money they allow."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from gpt_image_runs.billing.reconciliation.compare import compare_day
from gpt_image_runs.billing.reconciliation.matching import ComparedAttempt
from gpt_image_runs.contracts.provider_reconciliation import (
    Comparison,
    ComparisonOrder,
    CostLine,
    ProviderDay,
    RequestCount,
)

DAY = date(2026, 11, 20)
MIDNIGHT = datetime(2026, 11, 20, tzinfo=UTC)
TEN = MIDNIGHT + timedelta(hours=10)
NOON = MIDNIGHT + timedelta(hours=12)
LIST_COST = 166_650
PAID_LINES = {
    0: (),
    1: (CostLine(line_item="gpt-image-1, image_out", amount_usd="0.166650"),),
    2: (CostLine(line_item="gpt-image-1, image_out", amount_usd="0.333300"),),
    3: (CostLine(line_item="gpt-image-1, image_out", amount_usd="0.499950"),),
}
"""What so many pictures cost."""


def paid(name: str, at: datetime = TEN, **changes: Any) -> ComparedAttempt:
    """Build a billed attempt that was answered 40 seconds after it was sent."""
    attempt = ComparedAttempt(
        attempt_id=f"att_{name}",
        run_id=f"image:acme:{name}",
        model="gpt-image-1",
        outcome="succeeded",
        sent_at=at,
        finished_at=at + timedelta(seconds=40),
        reserved_micro_usd=250_000,
        billed=True,
        list_cost_micro_usd=LIST_COST,
        exact=True,
        images=1,
    )
    return replace(attempt, **changes)


def unknown(name: str, at: datetime = TEN, **changes: Any) -> ComparedAttempt:
    """Build an attempt without an answer."""
    nothing: dict[str, Any] = {"billed": False, "list_cost_micro_usd": None, "exact": False, "images": 0}
    finished = at + timedelta(seconds=1)
    return paid(name, at, **{"outcome": "unknown", "finished_at": finished, **nothing, **changes})


def counted(at: datetime, requests: int = 1, model: str = "gpt-image-1") -> RequestCount:
    return RequestCount(
        start=at.replace(second=0, microsecond=0), model=model, requests=requests, images=requests
    )


def compare(
    *attempts: ComparedAttempt, counts: tuple[RequestCount, ...] = (), lines: tuple[CostLine, ...] = ()
) -> Comparison:
    books = ProviderDay(counts=counts, lines=lines)
    return compare_day(ComparisonOrder(), DAY, "openai", attempts, books)


def fates(comparison: Comparison) -> dict[str, str]:
    return {each.attempt_id: each.doubt for each in comparison.doubts}


def test_equal_books_have_no_difference_and_no_doubt() -> None:
    """Where each request is counted and the money is that of the entries, the difference is zero and nothing is in doubt."""
    comparison = compare(
        paid("a"), paid("b", NOON), counts=(counted(TEN), counted(NOON)), lines=PAID_LINES[2]
    )
    [model] = comparison.models

    assert (comparison.verdict, comparison.windows, comparison.doubts) == ("equal", (), ())
    assert (model.requests, model.provider_requests, model.images, model.provider_images) == (2, 2, 2, 2)
    assert (model.list_cost_usd, model.provider_cost_usd) == ("0.333300", "0.333300")
    assert model.difference_usd == "0.000000"
    assert [(hour.hour, hour.requests, hour.provider_requests) for hour in comparison.hours] == [
        (TEN, 1, 1),
        (NOON, 1, 1),
    ]


def test_an_empty_day_is_equal() -> None:
    """Nothing on either side is no difference."""
    comparison = compare()
    assert (comparison.verdict, comparison.models, comparison.hours) == ("equal", (), ())


def test_an_unknown_attempt_that_was_counted_was_paid_for_nothing() -> None:
    """One request more than was answered, and one unknown attempt at that time: it was carried out, and explains the money."""
    comparison = compare(paid("a"), unknown("b"), counts=(counted(TEN, 2),), lines=PAID_LINES[2])
    [model] = comparison.models

    assert fates(comparison) == {"att_b": "paid_for_nothing"}
    assert (comparison.verdict, comparison.windows) == ("explained", ())
    assert (model.requests, model.unknown, model.provider_requests) == (1, 1, 2)
    assert (model.difference_usd, model.expected_from_usd, model.expected_to_usd) == (
        "0.166650",
        "0.166650",
        "0.416650",  # the entry, and the worst case of the unknown one
    )
    assert comparison.doubts[0].reserved_usd == "0.250000"


def test_an_unknown_attempt_that_was_not_counted_was_probably_not_paid() -> None:
    """As many requests as were answered: the unknown attempt was not carried out, and the books are equal."""
    comparison = compare(paid("a"), unknown("b"), counts=(counted(TEN),), lines=PAID_LINES[1])
    assert fates(comparison) == {"att_b": "probably_not_paid"}
    assert (comparison.verdict, comparison.models[0].difference_usd) == ("equal", "0.000000")


def test_unknown_attempt_that_was_not_counted_explains_no_money() -> None:
    """An unknown attempt that was not carried out cannot be why the provider charges more."""
    comparison = compare(paid("a"), unknown("b"), counts=(counted(TEN),), lines=PAID_LINES[2])
    assert (fates(comparison), comparison.verdict) == ({"att_b": "probably_not_paid"}, "unexplained")


def test_one_of_two_unknown_attempts_was_paid() -> None:
    """Where one of two at the same time was counted, nobody can tell which: both are told as perhaps paid."""
    comparison = compare(unknown("a"), unknown("b"), counts=(counted(TEN),), lines=PAID_LINES[1])
    assert fates(comparison) == {"att_a": "perhaps_paid", "att_b": "perhaps_paid"}
    assert comparison.verdict == "explained"


def test_each_time_of_the_day_is_judged_by_itself() -> None:
    """Of two unknown attempts two hours apart, the one that was counted is known from the one that was not."""
    comparison = compare(unknown("a"), unknown("b", NOON), counts=(counted(NOON),), lines=PAID_LINES[1])
    assert fates(comparison) == {"att_a": "probably_not_paid", "att_b": "paid_for_nothing"}


@pytest.mark.parametrize("late", [timedelta(seconds=-50), timedelta(0), timedelta(minutes=10)])
def test_an_unknown_attempt_may_be_counted_late(late: timedelta) -> None:
    """The provider may go on for as long as a call may last after we heard the last of it, and its clock is another."""
    comparison = compare(unknown("a"), counts=(counted(TEN + late),), lines=PAID_LINES[1])
    assert fates(comparison) == {"att_a": "paid_for_nothing"}


@pytest.mark.parametrize("at", [timedelta(seconds=-50), timedelta(seconds=90)])
def test_an_answered_attempt_may_be_counted_when_it_began_or_ended(at: timedelta) -> None:
    """The minute before, during or after a call: all are the same request."""
    comparison = compare(paid("a"), counts=(counted(TEN + at),), lines=PAID_LINES[1])
    assert comparison.verdict == "equal"


def test_requests_that_we_did_not_send_are_an_unexplained_difference() -> None:
    """What the provider counts at a time when nothing was sent from here is named with its time, and not explained."""
    comparison = compare(paid("a"), counts=(counted(TEN), counted(NOON, 2)), lines=PAID_LINES[3])
    [window] = comparison.windows

    assert comparison.verdict == "unexplained"
    assert (window.since, window.until, window.provider_requests, window.surplus) == (
        NOON,
        NOON + timedelta(minutes=1),
        2,
        2,
    )


def test_more_requests_than_ours_are_an_unexplained_difference() -> None:
    """More than all that was sent at a time: the unknown one was counted, and one request is not ours."""
    comparison = compare(paid("a"), unknown("b"), counts=(counted(TEN, 3),), lines=PAID_LINES[3])
    assert fates(comparison) == {"att_b": "paid_for_nothing"}
    assert [(window.surplus, window.requests, window.unknown) for window in comparison.windows] == [(1, 1, 1)]
    assert comparison.verdict == "unexplained"


def test_answered_request_that_was_not_counted_is_an_unexplained_difference() -> None:
    """A request that was answered and that the provider does not count is a difference that nothing explains."""
    comparison = compare(paid("a"), paid("b"), counts=(counted(TEN),), lines=PAID_LINES[2])
    assert [(window.surplus, window.requests) for window in comparison.windows] == [(-1, 2)]
    assert comparison.verdict == "unexplained"


def test_counts_that_are_not_complete_tell_nothing_of_unknown_attempts() -> None:
    """Where even an answered request is not counted, the provider counts late: the unknown one is not told as not paid."""
    comparison = compare(paid("a"), unknown("b"))
    assert (fates(comparison), comparison.verdict) == ({"att_b": "perhaps_paid"}, "unexplained")


def test_rejected_request_is_neither_counted_nor_charged() -> None:
    """A refused request is neither counted nor charged; it is told beside what is counted too much at its time."""
    refused = unknown("b", outcome="rejected")
    assert compare(paid("a"), refused, counts=(counted(TEN),), lines=PAID_LINES[1]).verdict == "equal"
    comparison = compare(paid("a"), refused, counts=(counted(TEN, 2),), lines=PAID_LINES[1])
    assert [(window.surplus, window.rejected) for window in comparison.windows] == [(1, 1)]


@pytest.mark.parametrize(
    ("changes", "doubt"),
    [
        ({"billed": False, "list_cost_micro_usd": None, "exact": False}, "no_entry"),
        ({"list_cost_micro_usd": None, "exact": False}, "no_list_cost"),
        ({"list_cost_micro_usd": 166_400, "exact": False}, "inexact_list_cost"),
    ],
)
def test_attempts_without_an_exact_list_cost_explain_a_difference(
    changes: dict[str, Any], doubt: str
) -> None:
    """A run without entry, without list cost or with an estimated one may cost up to its worst case, and no more."""
    attempt = paid("a", **changes)
    comparison = compare(attempt, counts=(counted(TEN),), lines=PAID_LINES[1])
    assert (comparison.verdict, fates(comparison)) == ("explained", {"att_a": doubt})
    too_much = compare(attempt, counts=(counted(TEN),), lines=PAID_LINES[2])
    assert too_much.verdict == "unexplained"


def test_without_a_worst_case_any_amount_may_be_right() -> None:
    """A model without a price has no worst case: what it may cost has no upper end."""
    attempt = paid("a", list_cost_micro_usd=None, exact=False, reserved_micro_usd=None)
    comparison = compare(attempt, counts=(counted(TEN),), lines=PAID_LINES[3])
    assert (comparison.verdict, comparison.models[0].expected_to_usd) == ("explained", None)
    assert comparison.doubts[0].reserved_usd is None


@pytest.mark.parametrize(
    ("amount", "verdict"),
    [
        ("0.166650", "equal"),
        ("0.166651", "equal"),
        ("0.1666494", "equal"),
        ("0.166652", "unexplained"),
        ("0.166648", "unexplained"),
        ("0.000000", "unexplained"),
    ],
)
def test_money_differs_by_no_more_than_rounding(amount: str, verdict: str) -> None:
    """One request leaves room for one micro-USD of rounding; more has to have a reason."""
    line = CostLine(line_item="gpt-image-1, image_out", amount_usd=amount)
    assert compare(paid("a"), counts=(counted(TEN),), lines=(line,)).verdict == verdict


def test_lines_are_added_up_by_model() -> None:
    """A model's line items are one amount, its dated snapshots included; what is no image model is not compared."""
    lines = (
        CostLine(line_item="gpt-image-1, text_in", amount_usd="0.000250"),
        CostLine(line_item="gpt-image-1-2025-04-23, image_out", amount_usd="0.166400"),
        CostLine(line_item="gpt-image-1-mini, image_out", amount_usd="0.010000"),
        CostLine(line_item="embeddings", amount_usd="9.000000"),
    )
    comparison = compare(paid("a"), counts=(counted(TEN, model="gpt-image-1-2025-04-23"),), lines=lines)
    assert [(model.model, model.provider_cost_usd) for model in comparison.models] == [
        ("gpt-image-1", "0.166650")
    ]
    assert comparison.verdict == "equal"
    assert comparison.other_lines == lines[2:]


def test_models_are_compared_apart() -> None:
    """A request too many of one model does not make up for one too few of another, and each has its own unknown ones."""
    comparison = compare(
        paid("a"),
        unknown("b", model="gpt-image-2"),
        counts=(counted(TEN), counted(TEN, model="gpt-image-2.5-flare")),
        lines=PAID_LINES[1],
    )
    assert [(model.model, model.verdict) for model in comparison.models] == [
        ("gpt-image-1", "equal"),
        ("gpt-image-2", "equal"),
        ("gpt-image-2.5-flare", "unexplained"),
    ]
    assert fates(comparison) == {"att_b": "probably_not_paid"}


def test_a_request_across_midnight_may_be_on_either_bill() -> None:
    """A request sent before and answered after midnight is ours that day, and may be on the provider's bill of the next."""
    late = paid("a", MIDNIGHT + timedelta(days=1, seconds=-20))
    tomorrow = counted(MIDNIGHT + timedelta(days=1))
    comparison = compare(late, counts=(tomorrow,))
    [model] = comparison.models

    assert (comparison.verdict, fates(comparison)) == ("explained", {"att_a": "across_midnight"})
    assert (model.requests, model.provider_requests, model.difference_usd) == (1, 0, "-0.166650")


def test_a_request_across_midnight_costs_no_more_for_that() -> None:
    """It may be on this bill or on the other, at the cost that its entry knows."""
    late = paid("a", MIDNIGHT + timedelta(days=1, seconds=-20))
    line = CostLine(line_item="gpt-image-1, image_out", amount_usd="0.200000")
    comparison = compare(late, counts=(counted(late.sent_at),), lines=(line,))
    assert (comparison.verdict, comparison.windows) == ("unexplained", ())


def test_a_request_of_the_day_before_may_be_on_this_bill() -> None:
    """A request sent just before the day is none of its own, and explains what the provider counts and charges on it."""
    early = paid("a", MIDNIGHT - timedelta(seconds=20))
    comparison = compare(early, counts=(counted(MIDNIGHT),), lines=PAID_LINES[1])
    [model] = comparison.models

    assert (comparison.verdict, fates(comparison)) == ("explained", {"att_a": "across_midnight"})
    assert (model.requests, model.provider_requests, model.list_cost_usd) == (0, 1, "0.000000")


def test_what_is_cut_off_by_the_question_is_no_surplus() -> None:
    """An attempt that reaches over the end of the time that was asked for may have been counted beyond it."""
    edge = MIDNIGHT - timedelta(minutes=15)
    attempts = [paid("a", edge - timedelta(seconds=20))]
    attempts += [paid(f"b{minute}", edge + timedelta(minutes=minute)) for minute in range(1, 17)]
    counts = tuple(counted(edge + timedelta(minutes=minute)) for minute in range(1, 17))
    line = CostLine(
        line_item="gpt-image-1, image_out", amount_usd="0.333300"
    )  # sent at midnight and a minute later
    for seen in (counts, (*counts, counted(edge))):
        assert compare(*attempts, counts=seen, lines=(line,)).windows == ()
    assert compare(*attempts, counts=(*counts, counted(edge, 2)), lines=(line,)).windows[0].surplus == 1
    assert compare(*attempts, counts=counts[1:], lines=(line,)).windows[0].surplus == -1


def test_what_lies_in_the_margins_alone_is_not_this_day_s() -> None:
    """Requests of the minutes before and after, which are asked for to see calls whole, are compared on their own days."""
    before, after = MIDNIGHT - timedelta(minutes=10), MIDNIGHT + timedelta(days=1, minutes=10)
    comparison = compare(paid("a", before), counts=(counted(after, 5),))
    assert (comparison.verdict, comparison.models, comparison.windows, comparison.doubts) == (
        "equal",
        (),
        (),
        (),
    )


def test_costs_that_are_not_told_yet_are_a_difference() -> None:
    """Where the provider has counted and not yet charged, the difference is told and not explained away."""
    comparison = compare(paid("a"), counts=(counted(TEN),))
    assert (comparison.verdict, comparison.models[0].difference_usd) == ("unexplained", "-0.166650")
