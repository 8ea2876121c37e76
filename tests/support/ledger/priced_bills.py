"""Runs that are billed as the worker bills them: by the shipped rate cards, from what the provider answered."""

from typing import Any

from gpt_image_runs.billing.attempts.runs import RunIdentity
from gpt_image_runs.billing.ledger.ledger import Ledger
from gpt_image_runs.billing.pricing.cost import compute_cost
from gpt_image_runs.billing.pricing.rate_cards import RateCards
from gpt_image_runs.contracts.billing import BillingRecord, CostInput
from gpt_image_runs.contracts.request import MissingUsage
from gpt_image_runs.database.engine import Database
from tests.support.ledger.ledger_examples import IDENTITY, SENT_AT, make_order, pay_attempt

# By our contract 10 * 50 + 40 * 4160 = 166,900 micro-USD.
USAGE = {"input_tokens": 50, "output_tokens": 4160}
_CARDS = RateCards.load()


def bill_run(
    database: Database,
    identity: RunIdentity = IDENTITY,
    *,
    usage: Any = USAGE,
    model: str = "gpt-image-1",
    missing_usage: MissingUsage = "estimate",
    **learned: Any,
) -> BillingRecord:
    """Pay and bill a run of one 1024x1024 image in high quality. `learned` is as in `pay_attempt`."""
    attempt = pay_attempt(database, identity, model=model, response={"usage": usage}, **learned)
    order = CostInput(
        provider="openai",
        model=model,
        usage=usage,
        missing_usage=missing_usage,
        operation="generate",
        images=1,
        size="1024x1024",
        quality="high",
        sent_at=SENT_AT,
    )
    return Ledger(database).record(make_order(attempt, compute_cost(order, _CARDS)))
