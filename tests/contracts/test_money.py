"""Money: integers inside, decimal strings outside, and no way for a float to get in."""

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
def test_an_amount_is_written_and_read_with_six_places(micro_usd: int, usd: str) -> None:
    """An amount in micro-USD is a decimal string with six places, and the other way round."""
    assert format_usd(micro_usd) == usd
    assert parse_usd(usd) == micro_usd


@pytest.mark.parametrize(
    ("usd", "micro_usd"), [("0.1669", 166_900), ("5", 5_000_000), ("0.10000000", 100_000), ("-0", 0)]
)
def test_fewer_places_are_read_and_empty_ones_too(usd: str, micro_usd: int) -> None:
    """Places that are left out count as zeros, and zeros beyond the sixth place are no refinement."""
    assert parse_usd(usd) == micro_usd


@pytest.mark.parametrize(
    "usd", ["0.0000001", "0.1666665", "NaN", "-Infinity", "", "1,50", "$1", "one", "1.2.3"]
)
def test_what_is_no_exact_amount_is_refused(usd: str) -> None:
    """A fraction of a micro-USD or no number at all is refused with the value, and never rounded."""
    with pytest.raises(ValueError, match=r"is not a valid amount in USD. Write a decimal number") as raised:
        parse_usd(usd)
    assert repr(usd) in str(raised.value)


@given(st.integers(min_value=-(10**21) + 1, max_value=10**21 - 1))
def test_no_amount_changes_on_its_way_out_and_in(micro_usd: int) -> None:
    """Every amount that a boundary can carry, of up to 15 digits before the point, comes back as it was."""
    usd = format_usd(micro_usd)
    assert USD.validate_python(usd) == usd
    assert parse_usd(usd) == micro_usd


@pytest.mark.parametrize("usd", ["0.000000", "-12.345678", "0.000000400000", "999999999999999.999999"])
def test_a_boundary_takes_six_to_twelve_places(usd: str) -> None:
    """An amount at a boundary has six places, a line item up to twelve, and passes unchanged."""
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
def test_a_boundary_refuses_everything_else(usd: object) -> None:
    """Any other way of writing an amount is refused at a boundary, floats and integers included."""
    with pytest.raises(ValidationError):
        USD.validate_python(usd)
