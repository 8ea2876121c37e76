"""Budgets hold: what could cost more than is left is refused before it is sent, however many ask at once."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import text

from gpt_image_runs.billing.attempts.attempts import AttemptLog
from gpt_image_runs.billing.budgets.budgets import Budgets
from gpt_image_runs.billing.records import AttemptOutcome
from gpt_image_runs.billing.verification.spend import find_wrong_spend
from gpt_image_runs.contracts.budgets import BudgetDecision
from gpt_image_runs.database.engine import Database
from gpt_image_runs.database.errors import BudgetExceeded
from gpt_image_runs.database.open import open_database
from tests.support.ledger.ledger_examples import (
    FINISHED_AT,
    SENT_AT,
    describe_attempt,
    identify,
)
from tests.support.runs.spending import TEN, WORST_CASE, ask, decide, spend_and_bill
from tests.support.servers.ledger_processes import run_at_once

REJECTED = AttemptOutcome(outcome="rejected", finished_at=FINISHED_AT)

SPEND_WHEN_TOLD = """
import os
import sys
from tests.support.runs.spending import spend_and_bill
from gpt_image_runs.database.errors import BudgetExceeded
from gpt_image_runs.database.open import open_database
database = open_database(sys.argv[1], create=False)
print("ready", flush=True)
sys.stdin.readline()
paid = 0
for number in range(10):
    try:
        spend_and_bill(database, f"{os.getpid()}-{number}")
        paid += 1
    except BudgetExceeded:
        pass
print(paid)
"""


@pytest.fixture
def databases(database_url: str) -> Iterator[list[Database]]:
    """Several processes' worth of connections to one ledger."""
    opened = [open_database(database_url, create=False) for _ in range(5)]
    yield opened
    for database in opened:
        database.close()


def ask_at_once(databases: list[Database], carry_out: Callable[[Database, str], object]) -> int:
    """Make fifty requests at once; return how many were allowed."""

    def try_it(number: int) -> bool:
        try:
            carry_out(databases[number % len(databases)], f"at-once-{number}")
        except BudgetExceeded:
            return False
        return True

    with ThreadPoolExecutor(50) as threads:
        return sum(threads.map(try_it, range(50)))


def test_of_fifty_at_once_ten_are_sent(databases: list[Database]) -> None:
    """Fifty requests at once against a budget for ten: exactly ten have an attempt, and the counters say so."""
    decide(databases[0], {"month": TEN})
    assert ask_at_once(databases, ask) == 10
    with databases[0].reading() as connection:
        assert connection.execute(text("SELECT COUNT(*) FROM provider_attempts")).scalar() == 10
    assert list(find_wrong_spend(databases[0])) == []


def test_of_fifty_at_once_ten_are_billed(databases: list[Database]) -> None:
    """The same with the whole way of a run: exactly ten are paid and billed, whatever is billed while others ask."""
    decide(databases[0], {"day": TEN})
    assert ask_at_once(databases, spend_and_bill) == 10
    budget = Budgets(databases[0], lambda: SENT_AT).show("acme").day
    assert (budget.real.used_usd, budget.real.reserved_usd) == ("2.400000", "0.000000")
    assert list(find_wrong_spend(databases[0])) == []


def test_processes_share_one_budget(database: Database, database_url: str) -> None:
    """Four processes with ten requests each against a budget for ten bills: ten are paid among them."""
    decide(database, {"month": TEN})
    done = run_at_once(SPEND_WHEN_TOLD, database_url, count=4)
    assert [process.stderr for process in done] == [""] * 4
    assert sum(int(process.stdout) for process in done) == 10
    assert list(find_wrong_spend(database)) == []


def test_refusal_names_budget_amounts_and_what_to_do(database: Database) -> None:
    """The sentence names tenant, period, budget, what is used, reserved and needed, and what to do; no trace is left."""
    decide(database, {"month": 600_000})
    spend_and_bill(database, "billed")
    ask(database)
    with pytest.raises(BudgetExceeded) as refusal:
        ask(database, "refused")
    assert str(refusal.value) == (
        "The budget of tenant acme does not allow this request; nothing was sent. It needs up to 0.250000 USD; of the month's"
        " budget of 0.600000 USD (2026-11, UTC), 0.240000 are used and 0.250000 reserved. Raise the budget (`python"
        " starter.py budget set acme --month USD --reason TEXT`) or wait for the next month, and submit the request again"
        " under the same id."
    )
    assert AttemptLog(database).list_attempts("image:acme:refused") == ()
    assert list(find_wrong_spend(database)) == []


def test_a_refused_run_leaves_no_trace(database: Database) -> None:
    """A new run that the budget refuses is not written down either: its request id is free for another content."""
    decide(database, {"month": WORST_CASE - 1})
    identity = identify("acme", "too-much")
    with pytest.raises(BudgetExceeded):
        AttemptLog(database).begin_run(identity, describe_attempt(identity.run_id))
    assert AttemptLog(database).claim_run(replace(identity, fingerprint="b2" * 32)) == ()
    assert list(find_wrong_spend(database)) == []


def test_both_periods_are_named_where_both_are_exceeded(database: Database) -> None:
    """Of two budgets the one that is exceeded is named, and both where it is both."""
    decide(database, {"month": 300_000, "day": 200_000})
    with pytest.raises(BudgetExceeded, match=r"; of the day's budget of 0\.200000 USD \(2026-11-23, UTC\)"):
        ask(database)
    with pytest.raises(BudgetExceeded) as refusal:
        ask(database, needed=300_001)
    assert "of the month's budget of 0.300000 USD (2026-11, UTC)" in str(refusal.value)
    assert "of the day's budget of 0.200000 USD (2026-11-23, UTC)" in str(refusal.value)
    assert "--month USD --day USD" in str(refusal.value)


def test_a_budget_is_spent_to_the_last_micro_usd(database: Database) -> None:
    """What needs exactly what is left is sent; one micro-USD more is not."""
    decide(database, {"day": WORST_CASE})
    with pytest.raises(BudgetExceeded):
        ask(database, needed=WORST_CASE + 1)
    ask(database)
    with pytest.raises(BudgetExceeded):
        ask(database, needed=1)
    ask(database, needed=0)


def test_a_budget_counts_what_was_spent_before_it(database: Database) -> None:
    """A budget that is set in the middle of a month counts the whole of it."""
    for _ in range(2):
        ask(database)
    decide(database, {"month": 3 * WORST_CASE})
    ask(database)
    with pytest.raises(BudgetExceeded):
        ask(database)


@pytest.mark.parametrize(
    ("limits", "last", "first"),
    [
        ({"day": WORST_CASE}, "2026-11-23T23:59:59.999999+00:00", "2026-11-24T00:00:00+00:00"),
        ({"month": WORST_CASE}, "2026-11-30T23:59:59.999999+00:00", "2026-12-01T00:00:00+00:00"),
        ({"month": WORST_CASE}, "2026-12-31T23:59:59.999999+00:00", "2027-01-01T00:00:00+00:00"),
    ],
)
def test_a_period_ends_at_midnight_utc(
    database: Database, limits: dict[str, int], last: str, first: str
) -> None:
    """The last microsecond of a day and a month counts there, wherever its clock stands; the next has a budget of its own."""
    decide(database, limits)
    tokyo = timezone(timedelta(hours=9))
    ask(database, at=datetime.fromisoformat(last).astimezone(tokyo))
    with pytest.raises(BudgetExceeded):
        ask(database, at=datetime.fromisoformat(last))
    ask(database, at=datetime.fromisoformat(first))


def test_a_month_is_the_sum_of_its_days(database: Database) -> None:
    """A month's budget counts requests of all of its days, and those of the month before not at all."""
    decide(database, {"month": 2 * WORST_CASE})
    for day in (31, 30):
        ask(database, at=datetime(2026, 10, day, tzinfo=UTC))
    for day in (1, 30):
        ask(database, at=datetime(2026, 11, day, tzinfo=UTC))
    with pytest.raises(BudgetExceeded):
        ask(database, at=datetime(2026, 11, 15, tzinfo=UTC))


def test_tenants_and_kinds_of_money_are_apart(database: Database) -> None:
    """One tenant's budget is none of another's, and simulated money is never added to real money."""
    decide(database, {"month": WORST_CASE})
    ask(database, simulated=True)
    ask(database)
    for _ in range(3):
        ask(database, tenant="zoo")
    with pytest.raises(BudgetExceeded, match=r"of the month's budget of 0\.250000 simulated USD"):
        ask(database, simulated=True)


def test_without_a_price_nothing_can_be_reserved(database: Database) -> None:
    """A request whose price is not known is refused where there is a budget, and only there; the sentence says what to do."""
    ask(database, needed=None)
    decide(database, {"day": 10**9})
    with pytest.raises(BudgetExceeded) as refusal:
        ask(database, needed=None)
    assert str(refusal.value) == (
        "Tenant acme has a budget of 1000.000000 USD for the day, and no price is known for gpt-image-1 at openai: nothing"
        " can be reserved for this request, so it was not sent. Add the model to a rate card of your own (RATE_CARD) and"
        " submit the request again under the same id."
    )
    decide(database, {"day": None})
    ask(database, needed=None)
    assert list(find_wrong_spend(database)) == []


def test_the_latest_decision_counts(database: Database) -> None:
    """A budget is raised, lowered and lifted by further rows; what was not named stays."""
    decide(database, {"month": 0, "day": 10**9})
    with pytest.raises(BudgetExceeded):
        ask(database)
    decide(database, {"month": WORST_CASE})
    ask(database)
    decide(database, {"month": WORST_CASE - 1})
    with pytest.raises(BudgetExceeded, match="month"):
        ask(database)
    decide(database, {"month": None})
    ask(database)
    decide(database, {"day": 1})
    with pytest.raises(BudgetExceeded, match="day"):
        ask(database)


def test_a_refused_request_is_sent_once_there_is_room(database: Database) -> None:
    """The same run that was refused begins with number 1 once another request was rejected and its reservation released."""
    decide(database, {"day": WORST_CASE})
    first = ask(database)
    with pytest.raises(BudgetExceeded):
        ask(database, "later")
    AttemptLog(database).finish(first.attempt_id, REJECTED)
    assert ask(database, "later").number == 1


def test_a_decision_is_written_once(database: Database) -> None:
    """A decision that is tried again, as an activity may be, is one row for each period that it names."""
    decision = BudgetDecision(
        tenant="acme", limits={"month": "1", "day": None}, reason="a trial", actor="ada"
    )
    budgets = Budgets(database)
    assert budgets.decide("key", decision) == budgets.decide("key", decision)
    with database.reading() as connection:
        rows = connection.execute(text("SELECT period, limit_micro_usd FROM budgets ORDER BY period"))
        assert [tuple(row) for row in rows] == [("day", None), ("month", 1_000_000)]


def test_a_budget_is_shown_with_what_is_left(database: Database) -> None:
    """Limit, used, reserved and left of month and day, simulated money apart; requests without a price are counted."""
    ask(database, needed=None)
    spend_and_bill(database, "billed")
    ask(database)
    ask(database, simulated=True, at=SENT_AT - timedelta(days=1))
    decide(database, {"month": 500_000})
    shown = Budgets(database, lambda: SENT_AT).show("acme")
    month, day = shown.month, shown.day
    assert (month.span, month.limit_usd, month.reason, month.actor) == (
        "2026-11",
        "0.500000",
        "a trial",
        "ada",
    )
    assert month.real.model_dump() == {
        "used_usd": "0.240000",
        "reserved_usd": "0.250000",
        "unpriced": 1,
        "left_usd": "0.010000",
    }
    assert (month.simulated.reserved_usd, month.simulated.left_usd) == ("0.250000", "0.250000")
    assert (day.span, day.limit_usd, day.real.used_usd, day.real.left_usd) == (
        "2026-11-23",
        None,
        "0.240000",
        None,
    )
    assert day.simulated.reserved_usd == "0.000000"


def test_only_tenants_with_a_budget_are_listed(database: Database) -> None:
    """The list has the tenants whose budget counts today: not those without one, nor one that was lifted."""
    ask(database, tenant="spender")
    decide(database, {"day": 1}, tenant="zoo")
    decide(database, {"month": 1}, tenant="acme")
    decide(database, {"month": 1}, tenant="lifted")
    decide(database, {"month": None}, tenant="lifted")
    assert [budget.tenant for budget in Budgets(database).list_all()] == ["acme", "zoo"]
