"""Usage that is charged beside `usage` is on hold in every path that bills an answer."""

from typing import Any

from activities.economy.documents import PlannedLine
from activities.economy.settle import LineBiller
from activities.provider_call.results import to_call_result
from gpt_image_runs.billing.attempts.attempts import AttemptLog
from gpt_image_runs.billing.ledger.ledger import Ledger
from gpt_image_runs.billing.pricing.rate_cards import RateCards
from gpt_image_runs.billing.records import Attempt
from gpt_image_runs.billing.recovery.recovery import bill_recovered
from gpt_image_runs.billing.reports.entries import list_entries
from gpt_image_runs.contracts.calls import CallInput
from gpt_image_runs.contracts.request import ImageRequest
from gpt_image_runs.database.engine import Database
from tests.support.ledger.ledger_examples import IDENTITY, pay_attempt

RESPONSE: dict[str, Any] = {
    "usage": {"input_tokens": 50, "output_tokens": 4160},
    "svg_usage": {"model": "gpt-5", "output_tokens": 900},
}
REASON = "svg_usage.output_tokens is 900: it is charged beside usage, and no rate card has a price for it."


def pay(database: Database) -> Attempt:
    pay_attempt(database, response=RESPONSE)
    [paid] = AttemptLog(database).list_attempts(IDENTITY.run_id)
    return paid


def test_svg_usage_is_a_problem_of_the_call(database: Database) -> None:
    order = CallInput(
        run_id=IDENTITY.run_id,
        tenant="acme",
        request_id="req-1",
        request=ImageRequest(model="gpt-image-1", prompt="a cup"),
        model="gpt-image-1",
        fingerprint=IDENTITY.fingerprint,
    )

    result = to_call_result(pay(database), order, 1)

    assert (result.usage, result.usage_problem) == (RESPONSE["usage"], REASON)


def test_svg_usage_holds_the_bill_of_a_batch_line(database: Database) -> None:
    line = PlannedLine(
        line=1,
        page=0,
        run_id=IDENTITY.run_id,
        tenant="acme",
        request_id="req-1",
        fingerprint=IDENTITY.fingerprint,
        operation="generate",
        requested_model="gpt-image-1",
        missing_usage="estimate",
        options={},
    )

    record = LineBiller(Ledger(database), RateCards.load()).bill(line, pay(database))

    assert (record.state, record.reason) == ("pending", REASON)
    [entry] = list_entries(database)
    assert (entry.kind, entry.amount_usd, entry.usage) == ("hold", None, RESPONSE["usage"])


def test_svg_usage_holds_the_bill_of_an_answer_that_was_read_again(database: Database) -> None:
    record = bill_recovered(database, pay(database), RateCards.load())

    assert (record.state, record.reason) == ("pending", REASON)
    [entry] = list_entries(database)
    assert (entry.kind, entry.amount_usd, entry.usage) == ("hold", None, RESPONSE["usage"])
