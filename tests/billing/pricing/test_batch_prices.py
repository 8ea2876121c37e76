"""What runs in a batch of the provider costs half, and says so on its bill."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import JsonValue

from gpt_image_runs.billing.attempts.attempts import AttemptLog
from gpt_image_runs.billing.ledger.corrections import Corrections
from gpt_image_runs.billing.ledger.ledger import Ledger
from gpt_image_runs.billing.pricing.cost import compute_cost
from gpt_image_runs.billing.pricing.quotes import price_ceiling
from gpt_image_runs.billing.pricing.rate_cards import RateCards
from gpt_image_runs.billing.reconciliation.matching import list_compared_attempts
from gpt_image_runs.billing.reports.entries import list_entries
from gpt_image_runs.billing.verification.verify import LedgerVerification
from gpt_image_runs.contracts.billing import BillingRecord, Cost, CostInput
from gpt_image_runs.contracts.corrections import Correction
from gpt_image_runs.contracts.request import ImageRequest
from gpt_image_runs.database.engine import Database
from tests.support.ledger.ledger_examples import IDENTITY, SENT_AT, SUCCEEDED, describe_attempt, make_order

CARDS = RateCards.load()
TODAY = datetime(2026, 11, 23, 12, tzinfo=UTC)
EDIT = {
    "input_tokens": 330,
    "input_tokens_details": {"text_tokens": 7, "image_tokens": 323},
    "output_tokens": 272,
}
WITH_TEXT = {
    "input_tokens": 15,
    "output_tokens": 4200,
    "output_tokens_details": {"image_tokens": 4160, "text_tokens": 40},
}
PLAIN: dict[str, JsonValue] = {"input_tokens": 50, "output_tokens": 4160}
OWN_CARD = """
id = "ours-1"
[[prices]]
provider = "*"
models = ["gpt-image-2"]
valid_from = 2026-11-01
source = "a letter"
checked_on = 2026-11-23
usd_per_million = { input = "20.00", output = "50.00" }
"""
OWN_BATCH = OWN_CARD.partition("[[prices]]")[2].replace("50.00", "10.00")


def cost_of(usage: Any, model: str, cards: RateCards = CARDS, **changed: Any) -> Cost:
    order = {
        "provider": "openai",
        "model": model,
        "usage": usage,
        "missing_usage": "estimate",
        "operation": "generate",
        "images": 1,
        "size": "1024x1024",
        "quality": "high",
        "output_format": "png",
        "sent_at": TODAY,
        "mode": "batch",
    }
    return compute_cost(CostInput.model_validate(order | changed), cards)


@pytest.mark.parametrize(
    ("model", "operation", "usage", "charge_usd", "list_cost_usd"),
    [
        # 5 * 50 + 20 * 4160 = 83,450; at list 2.5 * 50 + 20 * 4160 = 83,325.
        ("gpt-image-1", "generate", PLAIN, "0.083450", "0.083325"),
        # 1 * 7 + 1.25 * 323 + 4 * 272 = 1,498.75, rounded half up as ever.
        ("gpt-image-1-mini", "edit", EDIT, "0.001499", "0.001499"),
        # 2.5 * 15 + 16 * 4160 + 5 * 40 = 66,797.5: the half goes up.
        ("gpt-image-1.5", "generate", WITH_TEXT, "0.066798", "0.066798"),
        # 2.5 * 7 + 4 * 323 + 15 * 272 = 5,389.5.
        ("gpt-image-2", "edit", EDIT, "0.005390", "0.005390"),
        ("gpt-image-2.5-flare", "edit", EDIT, "0.005390", "0.005390"),
        ("gpt-image-2.6-sunburst", "edit", EDIT, "0.005390", "0.005390"),
    ],
)
def test_batch_amounts_worked_by_hand(
    model: str, operation: str, usage: Any, charge_usd: str, list_cost_usd: str
) -> None:
    """In a batch every class of tokens costs half; charge and list cost are flagged and name the batch cards."""
    cost = cost_of(usage, model, operation=operation)

    assert (cost.amount_usd, cost.list_cost_usd) == (charge_usd, list_cost_usd)
    assert cost.flags == ("batch_price",)
    assert (cost.rate_card, cost.list_rate_card) == ("charge-batch-2026-11-04", "list-batch-2026-11-04")


def test_batch_price_of_every_model_is_half_its_standard_price() -> None:
    """Each model of the standard cards stands on the batch cards at exactly half of each of its prices."""
    for standard, batch in (CARDS.charge_cards, CARDS.list_cards):
        doubled = {
            model: {name: 2 * rate for name, rate in price.usd_per_million.items()}
            for price in batch.prices
            for model in price.models
        }
        assert doubled == {
            model: price.usd_per_million for price in standard.prices for model in price.models
        }


def test_batch_price_of_2_6_names_its_source_as_an_analogy() -> None:
    """No batch price of 2.6 was found in print: its source says that ours is half by analogy."""
    for card in (CARDS.charge_cards[1], CARDS.list_cards[1]):
        sources = {price.source for price in card.prices if price.models[0].startswith("gpt-image-2.6")}
        assert sources
        assert all("by analogy" in source for source in sources)


def test_without_a_mode_a_price_is_the_standard_one() -> None:
    """A cost input that names no mode, as those of single requests."""
    cost = cost_of(PLAIN, "gpt-image-1", mode=None)

    assert (cost.amount_usd, cost.rate_card, cost.flags) == ("0.166900", "charge-2026-11-04", ())


def test_an_estimate_and_a_hold_are_by_batch_prices_too() -> None:
    """Without usage 4160 tokens at 20 are 83,200 micro-USD; and a hold says by which prices it is to be settled."""
    estimate = cost_of(None, "gpt-image-1")
    held = cost_of(None, "gpt-image-1", missing_usage="hold")

    assert (estimate.amount_usd, estimate.basis) == ("0.083200", "size_quality_estimate")
    assert {"estimated", "batch_price"} <= set(estimate.flags)
    assert (held.amount_usd, held.flags) == (None, ("usage_missing", "batch_price"))


def test_own_card_with_one_mode_has_no_price_in_the_other(tmp_path: Path) -> None:
    """Where an own card prices a model for standard requests alone, its batch price is not known: ours is not used."""
    card = tmp_path / "own.toml"
    card.write_text(OWN_CARD)
    cards = RateCards.load(card)

    cost = cost_of(PLAIN, "gpt-image-2", cards)
    assert (cost.amount_usd, cost.reason) == (
        None,
        "No batch price is known for model gpt-image-2 at provider openai on 2026-11-23.",
    )
    assert cost_of(PLAIN, "gpt-image-1", cards).amount_usd == "0.083450"


def test_own_card_with_both_modes_prices_each_request_by_its_mode(tmp_path: Path) -> None:
    """An own card may price both modes, on the same day: each request is charged by its own."""
    card = tmp_path / "own.toml"
    card.write_text(f'{OWN_CARD}[[prices]]\nmode = "batch"{OWN_BATCH}')
    cards = RateCards.load(card)

    assert cost_of(PLAIN, "gpt-image-2", cards).amount_usd == "0.042600"  # 20 * 50 + 10 * 4160
    assert cost_of(PLAIN, "gpt-image-2", cards, mode="standard").amount_usd == "0.209000"


def test_a_ceiling_in_a_batch_is_half() -> None:
    """What is reserved for a line of a batch is half of what its request by itself would reserve, rounded up."""
    request = ImageRequest(model="gpt-image-2", prompt="A cup", size="1024x1024", quality="low")

    standard = price_ceiling("openai", "gpt-image-2", request, TODAY, CARDS)
    batch = price_ceiling("openai", "gpt-image-2", request, TODAY, CARDS, mode="batch")
    assert standard == 6720  # 105 tokens at 8, 196 at 30
    assert batch == 3360


def bill_in_batch(database: Database, usage: Any, **changed: Any) -> BillingRecord:
    log = AttemptLog(database)
    log.claim_run(IDENTITY)
    attempt = log.begin(replace(describe_attempt(), batch_part="autumn/1/1/1"))
    log.finish(attempt.attempt_id, replace(SUCCEEDED, response={"usage": usage}))
    return Ledger(database).record(
        make_order(attempt, cost_of(usage, "gpt-image-1", sent_at=SENT_AT, **changed))
    )


def test_a_batch_bill_is_verified_and_compared(database: Database) -> None:
    """Verification derives half the amount from the entry itself, and for the provider's books its list cost is exact."""
    bill_in_batch(database, PLAIN)

    assert list(LedgerVerification(database, lambda _done, _all: None).find()) == []
    [compared] = list_compared_attempts(database, "openai", SENT_AT, TODAY)
    assert (compared.list_cost_micro_usd, compared.exact) == (83_325, True)


def test_a_correction_keeps_to_batch_prices(database: Database) -> None:
    """A held line of a batch that is reconciled later is settled at half price, as its hold says."""
    bill_in_batch(database, None, missing_usage="hold")

    settlement = Corrections(database, CARDS).settle(
        Correction(
            action="reconcile", run_id=IDENTITY.run_id, usage=PLAIN, reason="a ticket", actor="finance"
        )
    )

    assert settlement.total_usd == "0.083450"
    assert list_entries(database, run_id=IDENTITY.run_id)[0].flags == ("batch_price",)
    assert list(LedgerVerification(database, lambda _done, _all: None).find()) == []
