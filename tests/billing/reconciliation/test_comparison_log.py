"""What a comparison reads from the ledger, and how it is kept: on SQLite and on PostgreSQL."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from pydantic import JsonValue

from gpt_image_runs.billing.attempts.attempts import AttemptLog
from gpt_image_runs.billing.ledger.corrections import Corrections
from gpt_image_runs.billing.ledger.ledger import Ledger
from gpt_image_runs.billing.pricing.rate_cards import RateCards
from gpt_image_runs.billing.reconciliation.compare import compare_day, summarize
from gpt_image_runs.billing.reconciliation.history import ComparisonLog
from gpt_image_runs.billing.reconciliation.matching import ComparedAttempt, list_compared_attempts
from gpt_image_runs.contracts.billing import Cost
from gpt_image_runs.contracts.corrections import Action, Correction
from gpt_image_runs.contracts.provider_reconciliation import (
    Comparison,
    ComparisonOrder,
    CostLine,
    ProviderDay,
    RequestCount,
)
from gpt_image_runs.database.engine import Database
from gpt_image_runs.database.errors import LedgerRefused
from tests.support.ledger.ledger_examples import (
    CHARGE,
    ESTIMATE,
    FINISHED_AT,
    HOLD,
    IDENTITY,
    SENT_AT,
    SUCCEEDED,
    begin_attempt,
    describe_attempt,
    identify,
    make_order,
    pay_attempt,
)

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def list_around(database: Database, provider: str = "openai") -> tuple[ComparedAttempt, ...]:
    """List the attempts of the second in which all examples are sent."""
    return list_compared_attempts(database, provider, SENT_AT, SENT_AT + timedelta(seconds=1))


def compare_nothing() -> Comparison:
    """Compare a day on which the provider counts one request that we did not send."""
    books = ProviderDay(
        counts=(RequestCount(start=datetime(2026, 11, 23, 9, tzinfo=UTC), model="m", requests=1, images=1),),
        lines=(CostLine(line_item="m, image_out", amount_usd="0.0000008075"),),
    )
    return compare_day(ComparisonOrder(project_id="proj_1"), date(2026, 11, 23), "openai", (), books)


def test_an_attempt_is_read_with_what_its_entry_says(database: Database) -> None:
    """A billed attempt has its list cost, exact where the tokens were reported in full."""
    attempt = pay_attempt(database)
    Ledger(database).record(make_order(attempt))
    assert list_around(database) == (
        ComparedAttempt(
            attempt_id=attempt.attempt_id,
            run_id=IDENTITY.run_id,
            model="gpt-image-1",
            outcome="succeeded",
            sent_at=SENT_AT,
            finished_at=FINISHED_AT,
            reserved_micro_usd=250_000,
            billed=True,
            list_cost_micro_usd=166_650,
            exact=True,
            images=1,
        ),
    )


@pytest.mark.parametrize(
    ("cost", "listed", "exact"),
    [
        (ESTIMATE.model_copy(update={"list_cost_usd": "0.042240"}), 42_240, False),
        (HOLD, None, False),
        (CHARGE.model_copy(update={"flags": ("list_cost_is_upper_bound",)}), 166_650, False),
        (CHARGE.model_copy(update={"list_cost_usd": None}), None, True),
    ],
)
def test_list_cost_of_estimates_holds_and_flagged_costs_is_not_exact(
    database: Database, *, cost: Cost, listed: int | None, exact: bool
) -> None:
    """Estimates, holds and flagged costs are not exact; what has no list cost has none."""
    Ledger(database).record(make_order(pay_attempt(database), cost))
    [attempt] = list_around(database)
    assert (attempt.billed, attempt.list_cost_micro_usd, attempt.exact) == (True, listed, exact)


def correct(database: Database, action: Action, usage: JsonValue = None) -> None:
    """Correct the usual run."""
    order = Correction(
        action=action, run_id=IDENTITY.run_id, usage=usage, reason="The provider told.", actor="finance"
    )
    Corrections(database, RateCards.load()).settle(order)


def test_a_correction_s_difference_makes_the_whole(database: Database) -> None:
    """An estimate that was settled by the provider's usage has the list cost of that, known exactly."""
    estimate = ESTIMATE.model_copy(update={"list_cost_usd": "0.042240"})
    Ledger(database).record(make_order(pay_attempt(database), estimate))
    correct(database, "reconcile", {"input_tokens": 50, "output_tokens": 4160})
    [attempt] = list_around(database)
    assert (attempt.list_cost_micro_usd, attempt.exact) == (166_650, True)  # 5 * 50 + 40 * 4160


def test_money_given_back_to_a_customer_was_paid_to_the_provider(database: Database) -> None:
    """A reversed bill still costs what the provider charges for it."""
    Ledger(database).record(make_order(pay_attempt(database)))
    correct(database, "reverse")
    [attempt] = list_around(database)
    assert (attempt.billed, attempt.list_cost_micro_usd, attempt.exact) == (True, 166_650, True)


def test_attempts_without_an_entry_are_read_too(database: Database) -> None:
    """What succeeded without a bill, was refused, or is unknown is listed in its time; what was never sent is not."""
    log = AttemptLog(database)
    pay_attempt(database)
    refused = begin_attempt(database, identify("acme", "refused"))
    log.finish(refused.attempt_id, replace(SUCCEEDED, outcome="rejected"))
    not_sent = begin_attempt(database, identify("acme", "connect"))
    log.finish(not_sent.attempt_id, replace(SUCCEEDED, outcome="not_sent"))
    begin_attempt(database, identify("acme", "lost"))
    for request_id, sent_at in (
        ("early", SENT_AT - timedelta(seconds=1)),
        ("late", SENT_AT + timedelta(seconds=1)),
    ):
        log.claim_run(identify("acme", request_id))
        log.begin(replace(describe_attempt(f"image:acme:{request_id}"), sent_at=sent_at))
    found = {attempt.run_id: (attempt.outcome, attempt.billed) for attempt in list_around(database)}

    assert found == {
        "image:acme:req-1": ("succeeded", False),
        "image:acme:refused": ("rejected", False),
        "image:acme:lost": ("unknown", False),
    }


def test_another_provider_s_attempts_are_not_ours_to_compare(database: Database) -> None:
    """Attempts at a simulator or a gateway are in nobody else's books."""
    pay_attempt(database)
    assert list_around(database, "simulator") == ()


def test_comparison_is_recorded_once_for_each_key(database: Database) -> None:
    """The same run of a workflow keeps one comparison, the first; another run of the same day keeps its own."""
    log = ComparisonLog(database, lambda: NOW)
    first = log.record("day/run-1", compare_nothing())
    again = log.record("day/run-1", compare_nothing().model_copy(update={"verdict": "equal"}))
    other = log.record("day/run-2", compare_nothing())

    assert again == first
    assert other.comparison_id != first.comparison_id
    assert (first.recorded_at, first.comparison) == (NOW, compare_nothing())
    assert log.find("day/run-1") == first
    assert log.read(other.comparison_id) == other
    assert log.find("day/run-3") is None


def test_unknown_comparison_id_is_refused(database: Database) -> None:
    """An id that the ledger does not know ends with a sentence that says where was looked."""
    with pytest.raises(LedgerRefused, match="There is no comparison cmp_1 in the ledger at "):
        ComparisonLog(database).read("cmp_1")


def test_a_summary_holds_the_totals(database: Database) -> None:
    """The workflow's answer has the sums over all models, in micro-USD, and the id under which the whole is kept."""
    recorded = ComparisonLog(database).record("key", compare_nothing())
    summary = summarize(recorded)
    assert (summary.comparison_id, summary.verdict) == (recorded.comparison_id, "unexplained")
    assert (summary.requests, summary.provider_requests) == (0, 1)
    assert (summary.list_cost_usd, summary.provider_cost_usd, summary.difference_usd) == (
        "0.000000",
        "0.000001",
        "0.000001",
    )
