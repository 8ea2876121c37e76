from datetime import UTC, datetime
from typing import Any

import pytest

from gpt_image_runs.billing.reports.entries import CostRow, costs_by, list_entries, total
from gpt_image_runs.database.engine import Database
from tests.support.ledger.dated_bills import MONDAY, DatedBills, correct
from tests.support.ledger.ledger_examples import CHARGE, ESTIMATE, HOLD, IMAGE

SATURDAY = datetime(2026, 11, 21, 23, 59, 59, 999999, tzinfo=UTC)
SUNDAY = datetime(2026, 11, 22, tzinfo=UTC)


@pytest.fixture
def bill(database: Database) -> DatedBills:
    """Return a function that bills a run of its own and returns the entry's id."""
    return DatedBills(database)


def summarize(row: CostRow) -> tuple[object, ...]:
    return (row.key, row.simulated, row.runs, row.images, row.charged_usd, row.estimated_usd, row.pending)


def test_entries_are_listed_newest_first(database: Database, bill: DatedBills) -> None:
    """What happened last is what one looks for, and what a limit keeps."""
    ids = [bill("req-1"), bill("req-2"), bill("req-3")]
    assert [entry.entry_id for entry in list_entries(database)] == ids[::-1]
    assert [entry.entry_id for entry in list_entries(database, limit=2)] == [ids[2], ids[1]]


QUERIES: tuple[tuple[dict[str, Any], list[str]], ...] = (
    ({}, ["sunday", "monday", "zoo", "mini"]),
    ({"tenant": "zoo"}, ["zoo"]),
    ({"tenant": "nobody"}, []),
    ({"run_id": "image:acme:sunday"}, ["sunday"]),
    ({"model": "gpt-image-1-mini"}, ["mini"]),
    ({"since": SUNDAY}, ["sunday", "monday", "zoo", "mini"]),
    ({"since": MONDAY}, ["monday", "zoo", "mini"]),
    ({"until": MONDAY}, ["sunday"]),
    ({"since": SUNDAY, "until": MONDAY, "tenant": "acme"}, ["sunday"]),
)


def test_entries_are_filtered_by_tenant_run_model_and_time(database: Database, bill: DatedBills) -> None:
    """Tenant, run, model and time narrow the list down together; `since` is included and `until` is not."""
    bill("sunday", at=SUNDAY)
    bill("monday")
    bill("zoo", tenant="zoo")
    bill("mini", model="gpt-image-1-mini")
    for wanted, found in QUERIES:
        assert [entry.request_id for entry in list_entries(database, **wanted)] == found[::-1], wanted


def test_entry_as_json_has_decimal_strings_utc_times_and_null_for_a_hold(
    database: Database, bill: DatedBills
) -> None:
    """As JSON, amounts are decimal strings, moments are in UTC, and a hold's amount is null and not zero."""
    charged, held = bill("req-1"), bill("req-2", HOLD)
    second, first = (entry.model_dump(mode="json") for entry in list_entries(database))
    wanted = (
        "entry_id",
        "run_id",
        "tenant",
        "kind",
        "amount_usd",
        "list_cost_usd",
        "basis",
        "model",
        "created_at",
    )
    assert {name: first[name] for name in wanted} == {
        "entry_id": charged,
        "run_id": "image:acme:req-1",
        "tenant": "acme",
        "kind": "charge",
        "amount_usd": "0.166900",
        "list_cost_usd": "0.166650",
        "basis": "token_usage",
        "model": "gpt-image-1",
        "created_at": "2026-11-23T12:00:00Z",
    }
    assert {name: second[name] for name in ("entry_id", "kind", "amount_usd", "list_cost_usd", "reason")} == {
        "entry_id": held,
        "kind": "hold",
        "amount_usd": None,
        "list_cost_usd": None,
        "reason": "The provider returned no usage.",
    }


def test_deeply_nested_usage_is_shown_as_text(database: Database, bill: DatedBills) -> None:
    """A usage of 400 levels is shown as its text, and does not keep finance from reading the ledger."""
    usage: list[Any] = []
    for _ in range(399):
        usage = [usage]
    bill("req-1", HOLD, response={"usage": usage})
    bill("req-2")
    sound, absurd = (entry.model_dump(mode="json") for entry in list_entries(database))
    assert absurd["usage"] == "[" * 400 + "]" * 400
    assert sound["usage"] == {"input_tokens": 50, "output_tokens": 4160}


def test_costs_add_up_by_tenant(database: Database, bill: DatedBills) -> None:
    """Charges, estimates and holds are three columns: 0.166900 + 0.166900, 0.042240, and one that is pending."""
    bill("req-1")
    bill("req-2", images=(IMAGE.model_dump(),) * 3)
    bill("req-3", ESTIMATE)
    bill("req-4", HOLD)
    bill("req-1", tenant="Zoo")
    bill("req-1", HOLD, tenant="bees")
    assert [summarize(row) for row in costs_by(database, "tenant")] == [
        ("Zoo", False, 1, 1, "0.166900", "0.000000", 0),
        ("acme", False, 4, 6, "0.333800", "0.042240", 1),
        ("bees", False, 1, 1, "0.000000", "0.000000", 1),
    ]


def test_costs_add_up_by_model(database: Database, bill: DatedBills) -> None:
    """A run counts for the model that was called, which is the one that is paid."""
    bill("req-1", model="gpt-image-2")
    bill("req-2", model="gpt-image-1-mini")
    bill("req-3", model="gpt-image-2")
    assert [summarize(row) for row in costs_by(database, "model")] == [
        ("gpt-image-1-mini", False, 1, 1, "0.166900", "0.000000", 0),
        ("gpt-image-2", False, 2, 2, "0.333800", "0.000000", 0),
    ]


def test_costs_add_up_by_day(database: Database, bill: DatedBills) -> None:
    """A day is a day in UTC, from its first microsecond to its last."""
    bill("req-1", at=SATURDAY)
    bill("req-2", at=SUNDAY)
    bill("req-3", at=SUNDAY)
    assert [summarize(row) for row in costs_by(database, "day")] == [
        ("2026-11-21", False, 1, 1, "0.166900", "0.000000", 0),
        ("2026-11-22", False, 2, 2, "0.333800", "0.000000", 0),
    ]


def test_simulated_runs_are_never_added_to_real_ones(database: Database, bill: DatedBills) -> None:
    """A run against the simulator has rows of its own, in every grouping and in the total."""
    bill("req-1")
    bill("req-2", simulated=True)
    bill("req-3", HOLD, simulated=True)
    assert [summarize(row) for row in costs_by(database, "tenant")] == [
        ("acme", False, 1, 1, "0.166900", "0.000000", 0),
        ("acme", True, 2, 2, "0.166900", "0.000000", 1),
    ]
    totals = total(database)
    assert summarize(totals.real) == ("total", False, 1, 1, "0.166900", "0.000000", 0)
    assert summarize(totals.simulated) == ("total", True, 2, 2, "0.166900", "0.000000", 1)


def test_total_of_an_empty_ledger_has_two_rows_of_zero(database: Database) -> None:
    """An empty ledger has two rows of no runs."""
    totals = total(database)
    assert summarize(totals.real) == ("total", False, 0, 0, "0.000000", "0.000000", 0)
    assert summarize(totals.simulated) == ("total", True, 0, 0, "0.000000", "0.000000", 0)


def test_corrected_hold_and_estimate_count_as_charged(database: Database, bill: DatedBills) -> None:
    """A corrected hold is no longer pending, and a corrected estimate is charged: 0.042240 - 0.000340 + 0.166900."""
    estimate = bill("req-1", ESTIMATE)
    hold = bill("req-2", HOLD)
    correct(database, estimate, -340)
    correct(database, hold, 166_900)
    row = total(database).real
    assert summarize(row) == ("total", False, 2, 2, "0.208800", "0.000000", 0)
    assert row.total_usd == "0.208800"


def test_a_day_that_is_over_keeps_its_total(database: Database, bill: DatedBills) -> None:
    """A correction stands on its own day; of the estimate's day only the column changes, not the total."""
    estimate = bill("req-1", ESTIMATE, at=SATURDAY)
    assert [row.total_usd for row in costs_by(database, "day")] == ["0.042240"]
    correct(database, estimate, -340, at=MONDAY)
    assert [summarize(row) for row in costs_by(database, "day")] == [
        ("2026-11-21", False, 1, 1, "0.042240", "0.000000", 0),
        ("2026-11-23", False, 0, 0, "-0.000340", "0.000000", 0),
    ]


def test_an_unknown_list_cost_is_counted(database: Database, bill: DatedBills) -> None:
    """The list cost says how many bills it does not include: never silently zero."""
    bill("req-1")
    bill("req-2")
    bill("req-3", ESTIMATE)
    row = total(database).real
    assert (row.list_cost_usd, row.list_cost_unknown) == ("0.333300", 1)


def test_costs_are_exact_where_floats_are_not(database: Database, bill: DatedBills) -> None:
    """Sums stay integers where floats would lose a micro-dollar: 9007199254.740993 + 0.000001 + 0.000001."""
    for number, amount in enumerate(("9007199254.740993", "0.000001", "0.000001")):
        bill(f"req-{number}", CHARGE.model_copy(update={"amount_usd": amount, "list_cost_usd": amount}))
    row = total(database).real
    assert (row.charged_usd, row.list_cost_usd) == ("9007199254.740995", "9007199254.740995")


def test_costs_are_filtered_by_tenant_and_time(database: Database, bill: DatedBills) -> None:
    """Sums can be of one tenant and of some days."""
    bill("req-1", at=SATURDAY)
    bill("req-2", at=SUNDAY)
    bill("req-3", tenant="zoo", at=SUNDAY)
    assert total(database, tenant="acme").real.charged_usd == "0.333800"
    assert total(database, tenant="acme", since=SUNDAY, until=MONDAY).real.charged_usd == "0.166900"
    assert [row.key for row in costs_by(database, "tenant", since=SUNDAY)] == ["acme", "zoo"]
    assert [row.runs for row in costs_by(database, "tenant", until=SUNDAY)] == [1]
