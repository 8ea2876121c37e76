"""Amounts parsed exactly or refused."""

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
def test_parse_usd_is_exact_however_large_the_amount(usd: str, micro_usd: int) -> None:
    assert parse_usd(usd) == micro_usd


@pytest.mark.parametrize(
    "usd", ["1e3", " 1 ", "1_000", "٣", "", "NaN", "inf", "0.0000001", "1,5", "+1", "12345678901234567890"]
)
def test_parse_usd_refuses_what_it_would_have_to_round_or_guess(usd: str) -> None:
    with pytest.raises(ValueError, match="is not a valid amount in USD"):
        parse_usd(usd)
