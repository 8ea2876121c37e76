"""The tampering table tells what nobody noticed."""

from pathlib import Path

import pytest

from gpt_image_runs.database.open import open_database
from tests.chaos import tampering
from tests.chaos.tampering import tamper_with_copy
from tests.support.ledger.ledger_examples import identify
from tests.support.ledger.priced_bills import bill_run

# Alterations to draw: each costs some hundredths of a second, and tests/billing/verification tries all of them.
MOST = 30


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Make a ledger with one bill."""
    url = f"sqlite:///{tmp_path}/ledger.db"
    database = open_database(url, create=True)
    bill_run(database, identify("acme", "billed"))
    database.close()
    return url


def test_alterations_of_an_honest_ledger_are_all_noticed(url: str) -> None:
    report = tamper_with_copy(url, seed=1, rows_of_each=1, most=MOST)
    assert report.find_violations() == []
    assert (report.missed, report.found) == ([], report.tried)
    assert 0 < report.refused < report.tried
    assert f"{report.tried} noticed (100 %)" in report.describe()


def test_alterations_that_are_not_found_are_named(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a `verify` that finds nothing, all are told, those too that the database refuses with its guards on."""
    monkeypatch.setattr(tampering, "find_all", lambda _: [])
    report = tamper_with_copy(url, seed=1, rows_of_each=1, most=MOST)
    assert len(report.missed) == len(report.find_violations()) == report.tried > report.refused > 0
    assert "100 %" not in report.describe()


def test_table_without_rows_is_named(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An alteration that could not be tried does not count as noticed."""
    monkeypatch.setattr(tampering, "add_decisions", lambda _: None)
    report = tamper_with_copy(url, seed=1, rows_of_each=1, most=1)
    assert report.find_violations() == [
        f"{table} has no rows, so no alteration of it was tried."
        for table in ("budgets", "provider_comparisons")
    ]
    assert "of 8 tables" in report.describe()
