"""Amounts as people and programs write them, read exactly or not at all."""

import pytest

from gpt_image_runs.contracts.money import parse_usd


@pytest.mark.parametrize(
    ("usd", "micro_usd"),
    [
        ("0.166900", 166_900),
        ("0.1669", 166_900),
        ("3", 3_000_000),
        ("-0.000001", -1),
        ("999999999999999.999999", 999_999_999_999_999_999_999),
        ("1.50000000", 1_500_000),
    ],
)
def test_amounts_are_exact(usd: str, micro_usd: int) -> None:
    """A plain decimal number is read to the micro-dollar, however large."""
    assert parse_usd(usd) == micro_usd


@pytest.mark.parametrize(
    "usd", ["1e3", " 1 ", "1_000", "٣", "", "NaN", "inf", "0.0000001", "1,5", "+1", "12345678901234567890"]
)
def test_anything_else_is_refused(usd: str) -> None:
    """What is no plain decimal number of at most 6 places is refused, never rounded or guessed."""
    with pytest.raises(ValueError, match="is not a valid amount in USD"):
        parse_usd(usd)
