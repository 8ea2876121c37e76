"""A ledger's standing in numbers, by hand: what waits, what may be lost, how far budgets are used."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event, text

from gpt_image_runs.billing.attempts.attempts import AttemptLog
from gpt_image_runs.billing.attempts.exposure import MAX_ATTEMPT
from gpt_image_runs.billing.ledger.corrections import Corrections
from gpt_image_runs.billing.ledger.ledger import Ledger
from gpt_image_runs.billing.pricing.rate_cards import RateCards
from gpt_image_runs.billing.reports.health import BudgetStanding, MoneyStanding, read_standing
from gpt_image_runs.contracts.corrections import Correction
from gpt_image_runs.database.engine import Database
from tests.support.ledger.ledger_examples import (
    CHARGE,
    ESTIMATE,
    FINISHED_AT,
    HOLD,
    SENT_AT,
    SUCCEEDED,
    describe_attempt,
    identify,
    make_order,
    pay_attempt,
)
from tests.support.runs.spending import decide

NOW = SENT_AT + timedelta(hours=1)
BILLED_AT = datetime(2026, 11, 23, 8, 31, tzinfo=UTC)


def bill(database: Database, request_id: str, cost: Any) -> None:
    """Bill a run at that cost at 8:31."""
    paid = pay_attempt(database, identify("acme", request_id))
    Ledger(database, lambda: BILLED_AT).record(make_order(paid, cost))


def lose(database: Database, request_id: str, **different: Any) -> str:
    """Begin an attempt that is never answered."""
    identity, log = identify("acme", request_id), AttemptLog(database)
    log.claim_run(identity)
    return log.begin(replace(describe_attempt(identity.run_id), **different)).attempt_id


def test_health_of_an_empty_ledger_is_zero(database: Database) -> None:
    """Nothing waits, nothing is exposed, nobody has a budget: zeros that say so, for real and for simulated money."""
    standing = read_standing(database, NOW)

    assert standing.money == {False: MoneyStanding(), True: MoneyStanding()}
    assert standing.budgets == {"month": BudgetStanding(), "day": BudgetStanding()}


def test_health_counts_holds_and_estimates(database: Database) -> None:
    """Of two holds, an estimate and a charge, the first three wait; the estimate alone has an amount."""
    for request_id, cost in (("a", HOLD), ("b", HOLD), ("c", ESTIMATE), ("d", CHARGE)):
        bill(database, request_id, cost)

    standing = read_standing(database, NOW).money[False]

    assert (standing.pending, standing.oldest_pending) == (2, BILLED_AT)
    assert (standing.estimated, standing.estimated_micro_usd) == (1, 42_240)


def test_health_leaves_out_a_corrected_hold(database: Database) -> None:
    """A hold that was corrected is not pending."""
    bill(database, "a", HOLD)
    usage: dict[str, Any] = {"input_tokens": 50, "output_tokens": 4160}
    order = Correction(
        run_id="image:acme:a", action="reconcile", usage=usage, reason="ticket 4711", actor="ada"
    )
    Corrections(database, RateCards.load()).settle(order)

    assert read_standing(database, NOW).money[False] == MoneyStanding()


def test_health_counts_attempts_that_may_be_lost(database: Database) -> None:
    """An attempt that nothing was heard of counts once it is older than an attempt can be, with its worst case; one that ended as
    unknown counts at once, and one without a price counts without an amount. Simulated ones are counted apart.
    """
    lose(database, "lost", sent_at=NOW - MAX_ATTEMPT - timedelta(seconds=1))
    lose(database, "young", sent_at=NOW - MAX_ATTEMPT + timedelta(seconds=1))
    lose(database, "in-a-batch", sent_at=NOW - timedelta(hours=25), batch_part="autumn/1/0")
    lose(database, "unpriced", reserved_micro_usd=None)
    lose(database, "simulated", simulated=True)
    ended = lose(database, "ended", sent_at=NOW - timedelta(seconds=9))
    AttemptLog(database).finish(ended, replace(SUCCEEDED, outcome="unknown", finished_at=NOW))
    pay_attempt(database, identify("acme", "paid"))

    money = read_standing(database, NOW).money

    assert money[False] == MoneyStanding(exposed=3, exposed_micro_usd=500_000, unpriced=1)
    assert money[True] == MoneyStanding(exposed=1, exposed_micro_usd=250_000)


def test_health_counts_budgets_by_how_much_is_used(database: Database) -> None:
    """The latest decision counts, what is reserved counts as used, and a lifted budget is none. An attempt reserves 0.25."""
    decide(database, {"month": 10_000_000, "day": 250_000}, tenant="acme")
    decide(database, {"month": 300_000}, tenant="acme")
    decide(database, {"month": 900_000, "day": 1}, tenant="zoo")
    decide(database, {"day": None}, tenant="zoo")
    decide(database, {"month": 0}, tenant="nobody")
    lose(database, "reserved")

    budgets = read_standing(database, NOW).budgets

    assert budgets["month"] == BudgetStanding(budgets=3, nearly_used=2, used_up=1, highest_percent=100)
    assert budgets["day"] == BudgetStanding(budgets=1, nearly_used=1, used_up=1, highest_percent=100)


def test_health_of_a_new_month_has_no_use_of_the_old_one(database: Database) -> None:
    """What was spent in November counts on no budget of December."""
    decide(database, {"month": 300_000})
    lose(database, "reserved")

    december = read_standing(database, datetime(2026, 12, 1, tzinfo=UTC))

    assert december.budgets["month"].highest_percent == 0
    assert FINISHED_AT.month == 11


@pytest.mark.parametrize(
    "index", ["ix_ledger_entries_kind_created_at", "ix_provider_attempts_outcome_sent_at"]
)
def test_health_queries_use_their_indexes(database: Database, index: str) -> None:
    """The queries go by the indexes that were made for them: a ledger of any size is not read through every half minute."""
    asked: list[tuple[str, Any]] = []

    def remember(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_rest: Any) -> None:
        asked.append((statement, parameters))

    event.listen(database._engine, "before_cursor_execute", remember)
    read_standing(database, NOW)
    event.remove(database._engine, "before_cursor_execute", remember)

    explain = "EXPLAIN QUERY PLAN" if database.dialect == "sqlite" else "EXPLAIN"
    with database.reading() as connection:
        if database.dialect == "postgresql":  # which reads small tables as they are
            connection.execute(text("SET LOCAL enable_seqscan = off"))
        plans = [
            str(row)
            for statement, parameters in asked
            if statement.lstrip().startswith("SELECT")
            for row in connection.exec_driver_sql(f"{explain} {statement}", parameters)
        ]
    assert any(index in line for line in plans), plans
