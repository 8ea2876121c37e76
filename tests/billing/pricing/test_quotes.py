"""Quotes: amounts worked out by hand, and a sentence wherever there is none."""

from datetime import UTC, datetime
from typing import Any

import pytest

from gpt_image_runs.billing.pricing.quotes import quote_price
from gpt_image_runs.billing.pricing.rate_cards import RateCards
from gpt_image_runs.contracts.quote import Quote, QuoteInput
from gpt_image_runs.contracts.request import ImageRequest

CARDS = RateCards.load()
TODAY = datetime(2026, 11, 23, 12, tzinfo=UTC)
HIGH = {"size": "1024x1024", "quality": "high"}


def quote(model: str, *, called: str | None = None, **fields: Any) -> Quote:
    request = ImageRequest.model_validate({"model": model, "prompt": "a red kite", **fields})
    return quote_price(QuoteInput(request=request, model=called or model, provider="openai"), TODAY, CARDS)


def test_the_contract_s_price_stands_beside_the_list_price() -> None:
    """gpt-image-1 is charged 10 micro-USD a token in and 40 out; at list price the 110 tokens of input count as pictures."""
    quoted = quote("gpt-image-1", **HIGH)

    # 4,160 * 40, and with the input's bound 110 * 10 + 4,160 * 40
    assert (quoted.expected_usd, quoted.ceiling_usd) == ("0.166400", "0.167500")
    assert (quoted.list_expected_usd, quoted.list_ceiling_usd) == ("0.166400", "0.167500")
    assert quoted.reason is None
    assert quoted.rate_card != quoted.list_rate_card


def test_quote_of_several_images_is_multiplied() -> None:
    """Four pictures are four times the tokens: 4 * 1,056 * 40, and 4 * (110 * 10 + 1,056 * 40)."""
    quoted = quote("gpt-image-1", size="1024x1024", quality="medium", n=4)

    assert (quoted.images, quoted.expected_usd, quoted.ceiling_usd) == (4, "0.168960", "0.173360")


def test_partial_pictures_are_expected_as_asked() -> None:
    """Each is 100 output tokens more: (196 + 3 * 100) * 30, and the input's bound 110 * 8."""
    quoted = quote("gpt-image-2", size="1024x1024", quality="low", partial_images=3)

    assert (quoted.expected_usd, quoted.ceiling_usd) == ("0.014880", "0.015760")


def test_the_model_that_is_called_is_priced() -> None:
    """Where a retired model is replaced, the price is that of its replacement: 196 * 30, and 110 * 8 more."""
    quoted = quote("gpt-image-1", called="gpt-image-2", size="1024x1024", quality="low")

    assert (quoted.requested_model, quoted.model) == ("gpt-image-1", "gpt-image-2")
    assert (quoted.expected_usd, quoted.ceiling_usd) == ("0.005880", "0.006760")


@pytest.mark.parametrize(
    ("model", "fields", "why"),
    [
        ("gpt-image-2", {}, "name both"),
        ("gpt-image-2", {"size": "1024x1024", "quality": "auto"}, "name both"),
        ("gpt-image-2", {"size": "auto", "quality": "low"}, "name both"),
        ("gpt-image-2", {**HIGH, "images": ["store/a"]}, "pictures to edit"),
        ("gpt-image-2.6-flare", HIGH, "no sound estimate for gpt-image-2.6-flare at size 1024x1024"),
    ],
)
def test_no_expected_price_without_a_sound_estimate(model: str, fields: dict[str, Any], why: str) -> None:
    """An expected price is sound or it is not told: then there is the reason, and the worst case still."""
    quoted = quote(model, **fields)

    assert quoted.expected_usd is None
    assert quoted.list_expected_usd is None
    assert why in (quoted.reason or "")
    assert quoted.ceiling_usd


def test_without_a_price_there_is_no_amount() -> None:
    """A model without a price has neither amount, never a zero, and says that its bill would wait."""
    quoted = quote("gpt-image-99", **HIGH)

    assert {quoted.ceiling_usd, quoted.expected_usd, quoted.list_ceiling_usd, quoted.rate_card} == {None}
    assert (
        quoted.reason
        == "No price is known for model gpt-image-99 at provider openai on 2026-11-23: the bill would wait for one."
    )
