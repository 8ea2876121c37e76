"""Spend counters that are wrong are named, and counted anew by the command for it."""

from datetime import timedelta

import pytest

from gpt_image_runs.billing.budgets.budgets import Budgets
from gpt_image_runs.billing.verification import recount
from gpt_image_runs.billing.verification.spend import find_wrong_spend
from gpt_image_runs.database.engine import Database
from tests.support.ledger.ledger_examples import SENT_AT
from tests.support.ledger.tampering import tamper
from tests.support.runs.spending import ask, spend_and_bill

WRONG = "What the tenant has spent of {} in {} is counted wrong, so its budget is too."


@pytest.fixture
def spent(database: Database) -> Database:
    """Real and simulated money on two days of November."""
    spend_and_bill(database, "billed")
    ask(database)
    ask(database, needed=None, at=SENT_AT - timedelta(days=3))
    ask(database, simulated=True)
    return database


def tell(database: Database) -> list[tuple[str, str | None, str | None]]:
    return [(finding.what, finding.expected, finding.found) for finding in find_wrong_spend(database)]


@pytest.mark.parametrize(
    ("statement", "money", "expected", "found"),
    [
        (
            "UPDATE tenant_spend SET used_micro_usd = used_micro_usd - 1 WHERE span = '2026-11-23' AND used_micro_usd > 0",
            "money",
            "0.239999 used, 0.250000 reserved, 1 without a price",
            "0.240000 used, 0.250000 reserved, 1 without a price",
        ),
        (
            "DELETE FROM tenant_spend WHERE span = '2026-11' AND reserved_micro_usd = 250000 AND used_micro_usd = 0",
            "simulated money",
            "0.000000 used, 0.250000 reserved",
            "0.000000 used, 0.000000 reserved",
        ),
        (
            "UPDATE tenant_spend SET unpriced = 0 WHERE span = '2026-11'",
            "money",
            "0.240000 used, 0.250000 reserved, 1 without a price",
            "0.240000 used, 0.250000 reserved",
        ),
    ],
)
def test_a_counter_that_is_wrong_is_named(
    spent: Database, statement: str, money: str, expected: str, found: str
) -> None:
    """A counter that was changed or taken out is named with what it should say."""
    assert tell(spent) == []
    tamper(spent, statement)
    assert (WRONG.format(money, "2026-11"), expected, found) in tell(spent)


def test_a_wrong_day_is_named_and_so_is_its_month(spent: Database) -> None:
    """A day that lacks a request and a month that lacks it as well is one finding: the month is the sum of its days."""
    tamper(spent, "UPDATE tenant_spend SET reserved_micro_usd = 0 WHERE NOT simulated")
    assert tell(spent) == [
        (
            WRONG.format("money", "2026-11-23"),
            "0.240000 used, 0.250000 reserved",
            "0.240000 used, 0.000000 reserved",
        )
    ]


def test_an_amount_that_was_changed_is_missed_by_the_counter(spent: Database) -> None:
    """An entry whose amount was changed no longer comes to what was counted: the counters are a second witness."""
    tamper(spent, "UPDATE ledger_entries SET amount_micro_usd = 1")
    assert tell(spent) == [
        (
            WRONG.format("money", "2026-11-23"),
            "0.000001 used, 0.250000 reserved",
            "0.240000 used, 0.250000 reserved",
        )
    ]


def test_a_damaged_counter_on_sqlite_is_a_finding(spent: Database) -> None:
    """A counter that is no number any more, which SQLite allows, ends in a finding and not in a stack trace."""
    if spent.dialect == "sqlite":
        tamper(spent, "UPDATE tenant_spend SET used_micro_usd = 'x' WHERE span = '2026-11'")
        assert [what for what, _, _ in tell(spent)] == [WRONG.format("money", "2026-11")]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE tenant_spend SET used_micro_usd = 7, reserved_micro_usd = -1, unpriced = 3",
        "DELETE FROM tenant_spend",
        "INSERT INTO tenant_spend SELECT 'nobody', span, simulated, 1, 2, 3 FROM tenant_spend",
    ],
)
def test_recount_corrects_every_wrong_counter(
    spent: Database, database_url: str, statement: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """`python -m gpt_image_runs.billing.verification.recount` puts every counter right, tells how many, and finds nothing the second time."""
    before = Budgets(spent, lambda: SENT_AT).show("acme")
    tamper(spent, statement)
    assert recount.main(["--url", database_url]) == 0
    assert tell(spent) == []
    assert Budgets(spent, lambda: SENT_AT).show("acme") == before
    assert "counters were wrong and are right now." in capsys.readouterr().out
    assert recount.main(["--url", database_url]) == 0
    assert "every counter was right." in capsys.readouterr().out
