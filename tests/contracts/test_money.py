"""Money: integers inside, decimal strings outside, never a float."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from gpt_image_runs.contracts.money import Usd, format_usd, parse_usd

USD = TypeAdapter(Usd)

AMOUNTS = [
    (0, "0.000000"),
    (1, "0.000001"),
    (-1, "-0.000001"),
    (166_900, "0.166900"),
    (999_999, "0.999999"),
    (1_000_000, "1.000000"),
    (-1_500_000, "-1.500000"),
    (123_456_789_012_345_678, "123456789012.345678"),
]


@pytest.mark.parametrize(("micro_usd", "usd"), AMOUNTS)
def test_amount_is_formatted_and_parsed_with_six_places(micro_usd: int, usd: str) -> None:
    assert format_usd(micro_usd) == usd
    assert parse_usd(usd) == micro_usd


@pytest.mark.parametrize(
    ("usd", "micro_usd"), [("0.1669", 166_900), ("5", 5_000_000), ("0.10000000", 100_000), ("-0", 0)]
)
def test_missing_and_trailing_zero_places_are_parsed(usd: str, micro_usd: int) -> None:
    assert parse_usd(usd) == micro_usd


@pytest.mark.parametrize(
    "usd", ["0.0000001", "0.1666665", "NaN", "-Infinity", "", "1,50", "$1", "one", "1.2.3"]
)
def test_inexact_amount_is_refused_and_never_rounded(usd: str) -> None:
    with pytest.raises(ValueError, match=r"is not a valid amount in USD\. Write a decimal number") as raised:
        parse_usd(usd)
    assert repr(usd) in str(raised.value)


@given(st.integers(min_value=-(10**21) + 1, max_value=10**21 - 1))
def test_every_amount_survives_formatting_and_parsing(micro_usd: int) -> None:
    usd = format_usd(micro_usd)
    assert USD.validate_python(usd) == usd
    assert parse_usd(usd) == micro_usd


@pytest.mark.parametrize("usd", ["0.000000", "-12.345678", "0.000000400000", "999999999999999.999999"])
def test_usd_field_accepts_six_to_twelve_places(usd: str) -> None:
    assert USD.validate_python(usd) == usd


@pytest.mark.parametrize(
    "usd",
    [
        "1",
        "0.16690",
        "0.0000000000001",
        "1000000000000000.000000",
        "+1.000000",
        ".500000",
        "1e-6",
        " 1.000000",
        "1.000000\n",
        "1_0.000000",
        "\u0661.\u0665\u0660\u0660\u0660\u0660\u0660",  # digits that are not ASCII
        0.1669,
        166_900,
        None,
    ],
)
def test_usd_field_refuses_floats_integers_and_other_spellings(usd: object) -> None:
    with pytest.raises(ValidationError):
        USD.validate_python(usd)
