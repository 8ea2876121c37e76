"""Money: integers in micro-USD inside, decimal strings outside, never a float."""

import re
from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator

from gpt_image_runs.contracts.base import USD, JsonPattern

MICRO_USD_PER_USD = 1_000_000
_PLAIN_NUMBER = re.compile(r"-?\d{1,15}(\.\d{1,6}0*)?", re.ASCII)
_USD = re.compile(r"-?\d{1,15}\.\d{6,12}", re.ASCII)


def format_usd(micro_usd: int) -> str:
    """Format micro-USD as a decimal string with 6 places: 166900 is "0.166900"."""
    sign = "-" if micro_usd < 0 else ""
    whole, rest = divmod(abs(micro_usd), MICRO_USD_PER_USD)
    return f"{sign}{whole}.{rest:06d}"


def parse_usd(usd: str) -> int:
    """Parse a decimal string into micro-USD: "0.1669" is 166900.

    Raises:
        ValueError: it is not a plain decimal number, or is finer than a micro-USD.
    """
    if not _PLAIN_NUMBER.fullmatch(usd):
        raise ValueError(
            f"{usd!r} is not a valid amount in USD. Write a decimal number with at most 6 places, such as 0.166900"
        )
    return int(Decimal(usd) * MICRO_USD_PER_USD)


def _check_usd(usd: str) -> str:
    if not _USD.fullmatch(usd):
        raise ValueError(
            f"{usd!r} is not a valid amount in USD. Write a decimal number with 6 places, such as 0.166900"
        )
    return usd


# A decimal string in USD with 6 places (line items: up to 12, where a token's share is finer than a micro-USD).
Usd = Annotated[str, AfterValidator(_check_usd), JsonPattern(USD)]
