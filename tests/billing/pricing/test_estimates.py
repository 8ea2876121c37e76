import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt_image_runs.billing.pricing.estimates import estimate_output_tokens, known_qualities, known_sizes

VECTORS = json.loads((Path(__file__).parent / "vectors" / "costs.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "vector", VECTORS["estimated_output_tokens"], ids=lambda v: " ".join(map(str, v.values()))
)
def test_estimates_equal_amounts_worked_by_hand(vector: dict[str, Any]) -> None:
    """Published tables and the published calculator give these counts, to the token."""
    tokens = estimate_output_tokens(vector["model"], vector["size"], vector["quality"])

    assert tokens == vector["tokens"]


@pytest.mark.parametrize(
    "model", ["gpt-image-1-mini", "gpt-image-1.5", "gpt-image-1.5-2025-12-16", "chatgpt-image-latest"]
)
def test_the_first_generation_shares_one_table(model: str) -> None:
    """The published table holds for each of these models."""
    assert estimate_output_tokens(model, "1536x1024", "high", "webp") == 6208


@pytest.mark.parametrize(
    ("model", "size", "quality", "tokens"),
    [
        ("gpt-image-2-2026-04-21", "1024x1536", "medium", 1372),
        ("gpt-image-2", "2880x2880", "high", 23_719),
        ("gpt-image-2.5-flare-2026-09-08", "1072x1072", "low", 202),
        # u = 16 * 1504 / 2048 is 11.75, so 12; 24 * 1440 / 2304 is 15; 16 * 672 / 1024 is 10.5, to even: 10
        ("gpt-image-2.5-sunburst-2026-09-08", "2048x1504", "low", 244),
        ("gpt-image-2.5-sunburst", "2304x1440", "medium", 479),
        ("gpt-image-2", "1024x672", "low", 108),
    ],
)
def test_the_formula_rounds_half_to_even_and_then_up(
    model: str, size: str, quality: str, tokens: int
) -> None:
    """Orientation does not matter, snapshots count like their family, an exact half goes to the even number."""
    assert estimate_output_tokens(model, size, quality) == tokens


@pytest.mark.parametrize(
    ("model", "size", "quality", "output_format"),
    [
        ("gpt-image-2.6-sunburst", "1024x1024", "high", "png"),
        ("gpt-image-2.6-flare", "1024x1024", "low", "png"),
        ("gpt-image-9", "1024x1024", "low", "png"),
        ("gpt-image-1", "auto", "high", "png"),
        ("gpt-image-2", "auto", "high", "png"),
        ("gpt-image-2", "1024x1024", "auto", "png"),
        ("gpt-image-2", None, "high", "png"),
        ("gpt-image-2", "1024x1024", None, "png"),
        ("gpt-image-1", "1024x1024", "high", "gif"),
        ("gpt-image-2", "1024x1024", "high", "svg"),
        ("gpt-image-1", "2048x2048", "high", "png"),
        ("gpt-image-1", "1024x1024", "xhigh", "png"),
        ("gpt-image-2", "1024x1024", "xhigh", "png"),
        ("gpt-image-2", "1024 x 1024", "high", "png"),
        ("gpt-image-2", "01024x1024", "high", "png"),
        ("gpt-image-2", "3841x2000", "high", "png"),
        ("gpt-image-2", "2896x2880", "high", "png"),
        ("gpt-image-2", "3088x1024", "high", "png"),
        ("gpt-image-2", "3840x16", "low", "png"),
    ],
)
def test_estimate_without_a_published_rule_is_none(
    model: str, size: str | None, quality: str | None, output_format: str | None
) -> None:
    """Where no published rule applies there is no estimate: not of 2.6, not of auto, not beyond what is offered."""
    assert estimate_output_tokens(model, size, quality, output_format) is None


@settings(deadline=None)
@given(
    width=st.integers(1, 4000),
    height=st.integers(1, 4000),
    model=st.sampled_from(["gpt-image-1", "gpt-image-2", "gpt-image-2.5-flare"]),
    quality=st.sampled_from(["low", "medium", "high", "xhigh", "max"]),
)
def test_no_picture_is_free_and_none_exceeds_the_largest(
    width: int, height: int, model: str, quality: str
) -> None:
    """An estimate is a whole number above zero, and at most that of the largest known size at that quality."""
    tokens = estimate_output_tokens(model, f"{width}x{height}", quality)

    if tokens is not None:
        most = max(estimate_output_tokens(model, size, quality) or 0 for size in known_sizes(model))
        assert isinstance(tokens, int)
        assert 0 < tokens <= most
        assert quality in known_qualities(model)
