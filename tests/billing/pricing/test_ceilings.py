import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gpt_image_runs.billing.pricing.quotes import price_ceiling
from gpt_image_runs.billing.pricing.rate_cards import RateCards
from gpt_image_runs.contracts.money import parse_usd
from gpt_image_runs.contracts.request import ImageRequest

VECTORS = json.loads((Path(__file__).parent / "vectors" / "costs.json").read_text(encoding="utf-8"))
CARDS = RateCards.load()
TODAY = datetime(2026, 11, 23, 12, tzinfo=UTC)


def ceiling_of(model: str, **fields: Any) -> int | None:
    request = ImageRequest.model_validate({"model": model, "prompt": "a red kite", **fields})
    return price_ceiling("openai", model, request, TODAY, CARDS)


# "a red kite" is 10 bytes, so its input is bounded by 110 tokens; a picture brought along by 54,840 more.
@pytest.mark.parametrize(
    ("model", "fields", "micro_usd"),
    [
        # 110 * 10 + 4,160 * 40
        ("gpt-image-1", {"size": "1024x1024", "quality": "high"}, 167_500),
        # 4 * (110 * 10 + 1,056 * 40)
        ("gpt-image-1", {"size": "1024x1024", "quality": "medium", "n": 4}, 173_360),
        # size open: 1024x1536 is the dearest: 110 * 10 + 408 * 40
        ("gpt-image-1", {"size": "auto", "quality": "low"}, 17_420),
        # quality open: high is the dearest: 110 * 10 + 6,208 * 40
        ("gpt-image-1", {"size": "1536x1024"}, 249_420),
        # both open: 110 * 10 + 6,240 * 40
        ("gpt-image-1", {}, 250_700),
        # 110 * 2.5 + 272 * 8 is 2,451: all input as the dearer image input
        ("gpt-image-1-mini", {"size": "1024x1024", "quality": "low"}, 2_451),
        # text beside the picture: 110 * 8 + (1,056 + 2,000) * 32
        ("gpt-image-1.5", {"size": "1024x1024", "quality": "medium"}, 98_672),
        # 110 * 8 + 1,372 * 30
        ("gpt-image-2", {"size": "1536x1024", "quality": "medium"}, 42_040),
        # three partial pictures: 110 * 8 + (1,372 + 300) * 30
        ("gpt-image-2", {"size": "1536x1024", "quality": "medium", "partial_images": 3}, 51_040),
        # no rule known, so twice that too: 110 * 8 + 2 * (7,024 + 100) * 30
        ("gpt-image-2.6-flare", {"size": "1024x1024", "quality": "low", "partial_images": 1}, 428_320),
        # the largest square at high: 110 * 8 + 23,719 * 30
        ("gpt-image-2", {}, 712_450),
        # quality open at a size: max is the dearest: 110 * 8 + 7,024 * 30
        ("gpt-image-2.5-flare", {"size": "1024x1024", "quality": "auto"}, 211_600),
        # no rule known: twice 2.5 at max, whatever the quality: 110 * 8 + 2 * 7,024 * 30
        ("gpt-image-2.6-flare", {"size": "1024x1024", "quality": "low"}, 422_320),
        # 110 * 8 + 2 * 23,719 * 30
        ("gpt-image-2.6-sunburst", {}, 1_424_020),
        # two pictures and a mask, twice: 2 * ((110 + 3 * 54,840) * 8 + 196 * 30)
        (
            "gpt-image-2",
            {
                "size": "1024x1024",
                "quality": "low",
                "n": 2,
                "images": ["store/a", "store/b"],
                "mask": "store/m",
            },
            2_645_840,
        ),
    ],
)
def test_ceilings_worked_by_hand(model: str, fields: dict[str, Any], micro_usd: int) -> None:
    """What is explicit is taken by its rule, what is open as the dearest, the input once for each picture."""
    assert ceiling_of(model, **fields) == micro_usd


def test_a_part_of_a_micro_usd_is_rounded_up() -> None:
    """A ceiling is never below what it bounds: 101 tokens at 2.50 and 272 at 8 are 2,428.5 micro-USD."""
    assert ceiling_of("gpt-image-1-mini", prompt="x", size="1024x1024", quality="low") == 2_429


def test_text_is_bounded_by_its_bytes() -> None:
    """A character can take as many tokens as it has bytes: four for a kite, 104 * 10 + 272 * 40."""
    assert ceiling_of("gpt-image-1", prompt="🪁", size="1024x1024", quality="low") == 11_920


def test_without_a_price_there_is_no_ceiling() -> None:
    """A model that no card knows has no worst case that anybody could name."""
    assert ceiling_of("gpt-image-9") is None


@pytest.mark.parametrize("vector", VECTORS["token_usage"], ids=lambda vector: vector["name"])
def test_no_bill_worked_by_hand_passes_its_ceiling(vector: dict[str, Any]) -> None:
    """Real-sized bills stay below the ceiling of a request that leaves everything open."""
    ceiling = ceiling_of(vector["model"], images=["store/a"])

    assert ceiling is not None
    assert parse_usd(vector["charge_usd"]) < ceiling
