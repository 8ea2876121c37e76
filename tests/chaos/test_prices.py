"""The audit's own prices, against amounts that were worked out by hand."""

from typing import Any

import pytest

from tests.chaos.prices import charge_micro_usd, estimate_micro_usd


def usage(text: int, image: int, output: int, text_out: int | None = None) -> dict[str, Any]:
    counts: dict[str, Any] = {
        "input_tokens": text + image,
        "input_tokens_details": {"text_tokens": text, "image_tokens": image},
        "output_tokens": output,
    }
    if text_out is not None:
        counts["output_tokens_details"] = {"image_tokens": output - text_out, "text_tokens": text_out}
    return counts


@pytest.mark.parametrize(
    ("model", "counts", "micro_usd"),
    [
        ("gpt-image-1", usage(10, 40, 4160), 166_900),  # 50 * 10 + 4160 * 40
        ("gpt-image-1-mini", usage(10, 323, 408), 4_092),  # 20 + 807.5 + 3264 = 4091.5, half up
        ("gpt-image-1.5", usage(10, 0, 312, 40), 9_154),  # 50 + 272 * 32 + 40 * 10
        ("gpt-image-2", usage(10, 0, 1756), 52_730),  # 50 + 1756 * 30
    ],
)
def test_charge_equals_the_invoice_of_each_model(model: str, counts: dict[str, Any], micro_usd: int) -> None:
    assert charge_micro_usd(model, counts) == micro_usd


@pytest.mark.parametrize(
    ("model", "size", "quality", "images", "micro_usd"),
    [
        ("gpt-image-1", "1024x1024", "low", 2, 21_760),  # 272 * 40 * 2
        ("gpt-image-1-mini", "1024x1536", "low", 1, 3_264),  # 408 * 8
        ("gpt-image-2", "1024x1024", "medium", 1, 52_680),  # 1756 * 30
        ("gpt-image-2.6-flare", "1024x1024", "low", 1, None),
    ],
)
def test_estimate_is_the_published_output_price(
    model: str, size: str, quality: str, images: int, micro_usd: int | None
) -> None:
    """The output alone, by the published table; nothing where there is none."""
    assert estimate_micro_usd(model, size, quality, images) == micro_usd
