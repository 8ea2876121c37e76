"""The simulated provider's list prices: what its books say a request has cost.

Integers only. A price of 2.50 USD per million tokens is 2500 nano-USD per token.
"""

from typing import NamedTuple

from simulator.models import Family
from simulator.tokens import Usage


class Prices(NamedTuple):
    """Nano-USD by class of tokens: for one token each, or for all that were used."""

    text_in: int
    image_in: int
    image_out: int
    text_out: int


_PRICES: dict[Family, Prices] = {
    "1": Prices(5_000, 10_000, 40_000, 0),
    "1-mini": Prices(2_000, 2_500, 8_000, 0),
    "1.5": Prices(5_000, 8_000, 32_000, 10_000),
    "2": Prices(5_000, 8_000, 30_000, 0),
    "2.5": Prices(5_000, 8_000, 30_000, 0),
    "2.6": Prices(5_000, 8_000, 30_000, 0),
}


def price_usage(family: Family, usage: Usage, *, in_batch: bool = False) -> int:
    """The list price in micro-USD; half a micro-USD is rounded up."""
    return (sum(price_by_class(family, usage, in_batch=in_batch)) + 500) // 1000


def price_by_class(family: Family, usage: Usage, *, in_batch: bool = False) -> Prices:
    """The list price of each class of tokens, all of its tokens together, in nano-USD. In a batch everything costs half."""
    prices = _PRICES[family]
    share = 2 if in_batch else 1  # every price is even
    return Prices(
        text_in=usage.text_in * prices.text_in // share,
        image_in=usage.image_in * prices.image_in // share,
        image_out=usage.image_out * prices.image_out // share,
        text_out=usage.text_out * prices.text_out // share,
    )
