"""A month for finance: sums by day, tenant and model at once, worked out by hand."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from gpt_image_runs.billing.attempts.attempts import AttemptLog
from gpt_image_runs.billing.reports.entries import CostRow, costs_by
from gpt_image_runs.billing.reports.month import Cell, Sums, add_up, read_month
from gpt_image_runs.contracts.money import format_usd
from gpt_image_runs.database.engine import Database
from tests.support.ledger.dated_bills import DatedBills, correct
from tests.support.ledger.ledger_examples import CHARGE, ESTIMATE, HOLD, describe_attempt, identify

SINCE, UNTIL = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
NOW = datetime(2026, 12, 9, tzinfo=UTC)
FIRST, LAST = SINCE, UNTIL - timedelta(microseconds=1)
NO_USAGE = {"created": 1}


@pytest.fixture
def bill(database: Database) -> DatedBills:
    return DatedBills(database)


def read_cells(database: Database) -> tuple[Cell, ...]:
    return read_month(database, SINCE, UNTIL, NOW).cells


def test_a_cell_is_a_day_a_tenant_and_a_model(database: Database, bill: DatedBills) -> None:
    """Two charges of 0.166900 at a list cost of 0.166650, with 50 and 4160 tokens each, are one cell; others are their own."""
    bill("req-1", at=FIRST)
    bill("req-2", at=FIRST)
    bill("req-3", at=LAST)
    bill("req-4", at=LAST, tenant="zoo", model="gpt-image-2")
    one = Sums(runs=1, images=1, charged_micro_usd=166_900, list_cost_micro_usd=166_650)
    one = replace(one, input_tokens=50, output_tokens=4_160)
    assert read_cells(database) == (
        Cell(
            "2026-11-01",
            "acme",
            "gpt-image-1",
            False,
            Sums(
                runs=2,
                images=2,
                charged_micro_usd=333_800,
                list_cost_micro_usd=333_300,
                input_tokens=100,
                output_tokens=8_320,
            ),
        ),
        Cell("2026-11-30", "acme", "gpt-image-1", False, one),
        Cell("2026-11-30", "zoo", "gpt-image-2", False, one),
    )


def test_a_month_begins_and_ends_with_its_days(database: Database, bill: DatedBills) -> None:
    """What was written a microsecond before the month, or at its end, is of another one."""
    bill("before", at=SINCE - timedelta(microseconds=1))
    bill("after", at=UNTIL)
    assert read_cells(database) == ()


def test_estimates_and_pending_bills_are_apart(database: Database, bill: DatedBills) -> None:
    """An estimate of 0.042240 and a hold beside a charge of 0.166900: neither is in what is charged."""
    bill("req-1")
    bill("req-2", ESTIMATE, response=NO_USAGE)
    bill("req-3", HOLD, response=NO_USAGE)
    (cell,) = read_cells(database)
    assert cell.sums == Sums(
        runs=3,
        images=3,
        charged_micro_usd=166_900,
        estimated_micro_usd=42_240,
        pending=1,
        list_cost_micro_usd=166_650,
        list_cost_unknown=2,
        input_tokens=50,
        output_tokens=4_160,
    )
    assert cell.sums.total_micro_usd == 209_140


def test_a_correction_is_of_the_month_in_which_it_was_written(database: Database, bill: DatedBills) -> None:
    """October's estimate corrected in November: November has the difference of -0.000340, and neither run nor picture."""
    october = datetime(2026, 10, 31, 12, tzinfo=UTC)
    estimate = bill("req-1", ESTIMATE, at=october, response=NO_USAGE)
    correct(database, estimate, -340, at=FIRST, usage={"input_tokens": 50, "output_tokens": 4_160})
    (before,) = read_month(database, datetime(2026, 10, 1, tzinfo=UTC), SINCE, NOW).cells
    (after,) = read_cells(database)
    assert (before.sums.charged_micro_usd, before.sums.runs) == (42_240, 1)
    assert after.sums == Sums(charged_micro_usd=-340, input_tokens=50, output_tokens=4_160)


def test_tokens_that_were_known_before_count_once(database: Database, bill: DatedBills) -> None:
    """A correction with the usage that its run had adds no token, one with less takes some away, a reversal leaves them."""
    same, less, back = bill("req-1"), bill("req-2"), bill("req-3")
    correct(database, same, 0)
    correct(database, less, -400, usage={"input_tokens": 50, "output_tokens": 4_150})
    correct(database, back, -166_900, kind="reversal", usage=None)
    (cell,) = read_cells(database)
    assert (cell.sums.input_tokens, cell.sums.output_tokens) == (150, 3 * 4_160 - 10)
    assert cell.sums.charged_micro_usd == 2 * 166_900 - 400


@pytest.mark.parametrize(
    "usage", [[[]], {"input_tokens": "50"}, {"output_tokens": -1}, {"note": "\x00 \ud800"}, "none", 7]
)
def test_invalid_usage_counts_no_tokens(database: Database, bill: DatedBills, usage: object) -> None:
    """Whatever a provider has answered, the report of the month is there."""
    bill("req-1", HOLD, response={"usage": usage})
    (cell,) = read_cells(database)
    assert (cell.sums.pending, cell.sums.input_tokens, cell.sums.output_tokens) == (1, 0, 0)


def test_simulated_runs_have_cells_of_their_own(database: Database, bill: DatedBills) -> None:
    """The same day, tenant and model, real and simulated, are two cells."""
    bill("req-1")
    bill("req-2", simulated=True)
    assert [(cell.simulated, cell.sums.charged_micro_usd) for cell in read_cells(database)] == [
        (False, 166_900),
        (True, 166_900),
    ]


def test_exposure_is_of_the_day_of_sending_and_in_no_sum(database: Database) -> None:
    """A lost request is listed in the month in which it was sent, and is on no cell."""
    log = AttemptLog(database)
    for request, moment in (("req-1", LAST), ("req-2", UNTIL)):
        identity = identify("acme", request)
        log.claim_run(identity)
        log.begin(replace(describe_attempt(identity.run_id), sent_at=moment))
    report = read_month(database, SINCE, UNTIL, NOW)
    assert [(lost.run_id, lost.reserved_usd) for lost in report.exposed] == [("image:acme:req-1", "0.250000")]
    assert report.cells == ()


def test_cells_add_up_to_the_rows_of_costs_by(database: Database, bill: DatedBills) -> None:
    """By tenant, by model and by day the cells add up to the rows of `costs`, to the micro-dollar."""
    for number in range(40):
        cost = (CHARGE, ESTIMATE, HOLD, CHARGE.model_copy(update={"amount_usd": f"0.{number:06}"}))[
            number % 4
        ]
        entry = bill(
            f"req-{number}",
            cost,
            at=SINCE + timedelta(hours=9 * number),
            tenant=("acme", "Zoo", "bees")[number % 3],
            model=("gpt-image-1", "gpt-image-2")[number % 2],
            simulated=number % 5 == 0,
        )
        if number % 7 == 0:
            correct(database, entry, 1 - number, at=LAST)
    cells = read_cells(database)
    for grouping in ("tenant", "model", "day"):
        rows = costs_by(database, grouping, since=SINCE, until=UNTIL)
        assert len(rows) > 3
        for row in rows:
            sums = add_up(
                cell.sums
                for cell in cells
                if (getattr(cell, grouping), cell.simulated) == (row.key, row.simulated)
            )
            assert show(sums, row) == row


def show(sums: Sums, row: CostRow) -> CostRow:
    return CostRow(
        key=row.key,
        simulated=row.simulated,
        runs=sums.runs,
        images=sums.images,
        charged_usd=format_usd(sums.charged_micro_usd),
        estimated_usd=format_usd(sums.estimated_micro_usd),
        total_usd=format_usd(sums.total_micro_usd),
        pending=sums.pending,
        list_cost_usd=format_usd(sums.list_cost_micro_usd),
        list_cost_unknown=sums.list_cost_unknown,
    )
