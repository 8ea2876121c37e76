"""Receipts that are made of a run's history: what they bill, and what they hold."""

from typing import Any

import pytest

from activities.provider_call.results import to_call_result
from cli.recover.from_temporal import _build
from gpt_image_runs.billing.attempts.attempts import AttemptLog
from gpt_image_runs.billing.pricing.rate_cards import RateCards
from gpt_image_runs.billing.recovery.recovery import bill_restored, restore_attempt
from gpt_image_runs.billing.verification.verify import LedgerVerification
from gpt_image_runs.contracts.calls import CallFailure, CallInput, CallResult
from gpt_image_runs.contracts.request import ImageRequest
from gpt_image_runs.database.engine import Database
from gpt_image_runs.temporal.run_evidence import PaidCall
from tests.support.ledger.ledger_examples import FINISHED_AT, IDENTITY, IMAGE, SENT_AT

CARDS = RateCards.load()
ORDER = CallInput(
    run_id=IDENTITY.run_id,
    tenant=IDENTITY.tenant,
    request_id=IDENTITY.request_id,
    request=ImageRequest(model=IDENTITY.requested_model, prompt="a lighthouse", missing_usage="estimate"),
    model=IDENTITY.requested_model,
    fingerprint=IDENTITY.fingerprint,
)
USAGE = {"input_tokens": 50, "output_tokens": 4160}


def restore(database: Database, **told: Any) -> CallResult:
    """Restore a call from what its history says; what the run is told when it is submitted again."""
    result = CallResult.model_validate(
        {
            "attempt_id": "att_1",
            "attempts": 1,
            "model": "gpt-image-1",
            "provider": "openai",
            "operation": "generate",
            "images": (IMAGE,),
            "usage": USAGE,
            "size": "1024x1024",
            "quality": "high",
            "sent_at": SENT_AT,
            **told,
        }
    )
    receipt = _build(PaidCall(ORDER, result, "8c6f3f1e", FINISHED_AT), IDENTITY, None, "ldg_1")
    restore_attempt(database, receipt)
    bill_restored(database, CARDS, receipt, missing_usage="estimate", actor="ada")
    [paid] = AttemptLog(database).list_attempts(IDENTITY.run_id)
    return to_call_result(paid, ORDER, 1)


def read_bill(database: Database) -> tuple[str, int | None, str | None]:
    with database.reading() as connection:
        row = connection.exec_driver_sql("SELECT kind, amount_micro_usd, reason FROM ledger_entries").one()
        return row[0], row[1], row[2]


@pytest.mark.parametrize(
    ("usage", "problem"),
    [
        (USAGE, "svg_usage.output_tokens is 900: it is charged beside usage, and no rate card has a price for it."),
        (None, "The provider's usage has 20,000 characters in 3 levels, more than the 16,384 in 20 that are read."),
    ],
    ids=["svg_usage", "too large"],
)  # fmt: skip
def test_restored_call_without_billable_usage_is_held(database: Database, usage: Any, problem: str) -> None:
    again = restore(database, usage=usage, usage_problem=problem)
    assert read_bill(database) == ("hold", None, problem)
    assert (again.usage, again.usage_problem) == (usage, problem)
    assert list(LedgerVerification(database, lambda _done, _all: None).find()) == []


def test_restored_call_is_billed_by_its_usage(database: Database) -> None:
    assert restore(database).usage_problem is None
    assert read_bill(database) == ("charge", 166_900, None)


def test_restored_call_without_a_picture_fails_again(database: Database) -> None:
    failure = CallFailure(error_type="OutputRefused", message="The picture was withheld.")
    again = restore(database, images=(), failure=failure)
    assert (again.failure, read_bill(database)[:2]) == (failure, ("charge", 166_900))
