"""What a payment should be charged, worked out anew from the published prices: nothing here comes from the code under test."""

from collections.abc import Mapping
from typing import Any

# Micro-USD per token: input_tokens * 0.00001 + output_tokens * 0.00004 USD.
_CONTRACT_MODEL, _CONTRACT_IN, _CONTRACT_OUT = "gpt-image-1", 10, 40

# Per token, from OpenAI's pricing page: 5 USD per million tokens is 5,000 nano-USD for one.
_LIST_NANO_USD = {
    "gpt-image-1-mini": {"text_in": 2_000, "image_in": 2_500, "image_out": 8_000, "text_out": 0},
    "gpt-image-1.5": {"text_in": 5_000, "image_in": 8_000, "image_out": 32_000, "text_out": 10_000},
    "gpt-image-2": {"text_in": 5_000, "image_in": 8_000, "image_out": 30_000, "text_out": 0},
    "gpt-image-2.6-flare": {"text_in": 5_000, "image_in": 8_000, "image_out": 30_000, "text_out": 0},
}

# Output tokens of one picture, from OpenAI's guide. There is none for gpt-image-2.6: no sound estimate exists.
_PICTURE_TOKENS = {
    ("gpt-image-1", "1024x1024", "low"): 272,
    ("gpt-image-1", "1536x1024", "medium"): 1568,
    ("gpt-image-1-mini", "1024x1536", "low"): 408,
    ("gpt-image-1.5", "1024x1024", "low"): 272,
    # 48 * 48 * (2,000,000 + 1,048,576) / 4,000,000 = 1755.98, rounded up
    ("gpt-image-2", "1024x1024", "medium"): 1756,
}


def charge_micro_usd(model: str, usage: Mapping[str, Any]) -> int:
    """Compute the charge for usage in micro-USD, rounded half up.

    By the contract for gpt-image-1, at the list price elsewhere.
    """
    if model == _CONTRACT_MODEL:
        return int(_CONTRACT_IN * usage["input_tokens"] + _CONTRACT_OUT * usage["output_tokens"])
    prices = _LIST_NANO_USD[model]
    given = usage["input_tokens_details"]
    text_out = usage.get("output_tokens_details", {}).get("text_tokens", 0)
    nano_usd = (
        prices["text_in"] * given["text_tokens"]
        + prices["image_in"] * given["image_tokens"]
        + prices["image_out"] * (usage["output_tokens"] - text_out)
        + prices["text_out"] * text_out
    )
    return int((nano_usd + 500) // 1000)


def estimate_micro_usd(model: str, size: str, quality: str, images: int) -> int | None:
    """Compute the bill of images without usage, output only; None where no sound estimate exists."""
    tokens = _PICTURE_TOKENS.get((model, size, quality))
    if tokens is None:
        return None
    if model == _CONTRACT_MODEL:
        return _CONTRACT_OUT * tokens * images
    return (_LIST_NANO_USD[model]["image_out"] * tokens * images + 500) // 1000
