"""A bill is priced from the recorded attempt, whatever cost is handed over."""

from dataclasses import replace
from typing import Any

import pytest

from gpt_image_runs.billing.attempts.attempts import AttemptLog
from gpt_image_runs.billing.attempts.runs import RunIdentity
from gpt_image_runs.billing.ledger.ledger import Ledger
from gpt_image_runs.billing.pricing.rate_cards import RateCards
from gpt_image_runs.billing.records import Attempt
from gpt_image_runs.contracts.billing import BillingInput, BillingRecord, Cost
from gpt_image_runs.database.engine import Database
from gpt_image_runs.database.errors import RunConflict
from tests.support.ledger.ledger_examples import (
    CHARGE,
    HOLD,
    IDENTITY,
    SUCCEEDED,
    describe_attempt,
    pay_attempt,
)

CARDS = RateCards.load()
FREE = Cost(amount_usd="0.000000", basis="token_usage", rate_card="charge-2026-11-04")
ESTIMATED = Cost(amount_usd="0.000001", basis="size_quality_estimate")
ASKED_FOR_PARTIAL_IMAGES = replace(IDENTITY, fingerprint=f"{'a1' * 32} model:1b2c3d partial_images:9e8f70")
ASKED_FOR_NONE = replace(IDENTITY, fingerprint=f"{'a1' * 32} model:1b2c3d")


def bill(database: Database, paid: Attempt, handed: Cost, workflow_id: str | None = None) -> BillingRecord:
    order = BillingInput(run_id=paid.run_id, attempt_id=paid.attempt_id, cost=handed)
    return Ledger(database).bill(order, CARDS, workflow_id=workflow_id)


def read_amount(database: Database) -> tuple[str, int | None]:
    with database.reading() as connection:
        row = connection.exec_driver_sql("SELECT kind, amount_micro_usd FROM ledger_entries").one()
        return row[0], row[1]


@pytest.mark.parametrize("handed", [FREE, ESTIMATED, HOLD, CHARGE])
def test_usage_of_the_attempt_decides_the_amount(database: Database, handed: Cost) -> None:
    record = bill(database, pay_attempt(database), handed)
    assert read_amount(database) == ("charge", 166_900)
    assert record.cost is not None
    assert (record.state, record.cost.amount_usd) == ("billed", "0.166900")


def test_cost_as_computed_is_recorded_without_a_word(database: Database) -> None:
    paid = pay_attempt(database)
    computed = bill(database, paid, FREE).cost
    assert computed is not None
    assert bill(database, paid, computed).cost is None


def test_line_of_a_batch_costs_half_and_nothing_else_does(database: Database) -> None:
    """The part that the attempt names decides, and no flag that is handed over."""
    log = AttemptLog(database)
    log.claim_run(IDENTITY)
    attempt = log.begin(replace(describe_attempt(), batch_part="autumn/1/1/1"))
    log.finish(attempt.attempt_id, SUCCEEDED)
    record = bill(database, attempt, CHARGE)
    assert read_amount(database) == ("charge", 83_450)
    assert record.cost is not None
    assert record.cost.flags == ("batch_price",)


def test_handed_over_batch_price_does_not_count(database: Database) -> None:
    bill(database, pay_attempt(database), replace_cost(amount_usd="0.083450", flags=("batch_price",)))
    assert read_amount(database) == ("charge", 166_900)


def replace_cost(**changes: Any) -> Cost:
    return CHARGE.model_copy(update=changes)


@pytest.mark.parametrize(
    ("identity", "handed", "found"),
    [
        (ASKED_FOR_NONE, ESTIMATED, ("estimate", 166_400)),
        (ASKED_FOR_NONE, HOLD, ("hold", None)),
        (ASKED_FOR_NONE, FREE, ("estimate", 166_400)),
        (ASKED_FOR_PARTIAL_IMAGES, ESTIMATED, ("hold", None)),
        (ASKED_FOR_PARTIAL_IMAGES, HOLD, ("hold", None)),
        (IDENTITY, ESTIMATED, ("estimate", 166_400)),
    ],
)
def test_without_usage_the_cost_handed_over_chooses_estimate_or_hold_alone(
    database: Database, identity: RunIdentity, handed: Cost, found: tuple[str, int | None]
) -> None:
    bill(database, pay_attempt(database, identity, response={"created": 1}), handed)
    assert read_amount(database) == found


def test_a_workflow_bills_its_own_run_alone(database: Database) -> None:
    paid = pay_attempt(database)
    with pytest.raises(RunConflict, match="belongs to workflow image:acme:req-1, and workflow evil asked"):
        bill(database, paid, CHARGE, workflow_id="evil")
    assert bill(database, paid, CHARGE, workflow_id=IDENTITY.workflow_id).state == "billed"


def test_a_run_of_an_economy_batch_is_billed_by_the_run_that_finds_it(database: Database) -> None:
    of_a_batch = replace(IDENTITY, workflow_id="economy-batch:autumn")
    record = bill(database, pay_attempt(database, of_a_batch), CHARGE, workflow_id="image:acme:req-1")
    assert record.state == "billed"
