"""One rate: what a model's tokens cost per class, in integers.

A price of 2.50 USD per million tokens is 2_500_000 micro-USD per million tokens. So tokens times rate is an amount in
pico-USD (10**-12 USD), exactly, whatever the price: only the total is rounded.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from gpt_image_runs.contracts.billing import LineItem
from gpt_image_runs.contracts.money import MICRO_USD_PER_USD

TokenClass = Literal["input", "output", "text_in", "image_in", "text_out", "image_out"]
# A rate on the usage's totals, as in our contract.
TOTALS = frozenset({"input", "output"})
# A rate per class of tokens, as in the provider's list; `text_out` too where the model emits billable text.
CLASSES = frozenset({"text_in", "image_in", "image_out"})

_RATE = re.compile(r"\d{1,7}(\.\d{1,6})?", re.ASCII)
_MAX_USD_PER_MILLION = 1_000_000


@dataclass(frozen=True)
class Rate:
    """A model's prices in micro-USD per million tokens by token class, and the id of the card that holds them."""

    card: str
    micro_usd_per_million: Mapping[TokenClass, int]

    @property
    def is_on_totals(self) -> bool:
        """Whether the usage's totals are priced, not its token classes."""
        return self.micro_usd_per_million.keys() == TOTALS

    @property
    def picture_class(self) -> TokenClass:
        """The class in which the tokens of a generated image are priced."""
        return "output" if self.is_on_totals else "image_out"

    def dearest_of(self, *token_classes: TokenClass) -> TokenClass:
        """Return the class with the highest price, the first of equals.

        Classes without a price are left out.
        """
        priced = [name for name in token_classes if name in self.micro_usd_per_million]
        return max(priced, key=self.micro_usd_per_million.__getitem__)

    def snapshot(self) -> dict[str, str]:
        """Return the prices for a bill: USD per million tokens, as decimal strings."""
        return {name: format_rate(rate) for name, rate in self.micro_usd_per_million.items()}


def parse_rate(usd: object) -> int:
    """Parse a price in USD to a rate in micro-USD: "2.50" is 2_500_000.

    Raises:
        ValueError: not a decimal string, more than 6 decimal places, zero, or too large to be a price.
    """
    if not isinstance(usd, str) or not _RATE.fullmatch(usd):
        kind = "a float" if isinstance(usd, float) else "not a decimal number in quotes with at most 6 places"
        raise ValueError(f'{usd!r} is {kind}. Write the price as text, such as "2.50".')
    whole, _, places = usd.partition(".")
    rate = int(whole) * MICRO_USD_PER_USD + int(places.ljust(6, "0"))
    if rate == 0:
        raise ValueError(
            "A price of 0 is not valid: bills would show zeros that the provider never reported."
        )
    if rate > _MAX_USD_PER_MILLION * MICRO_USD_PER_USD:
        raise ValueError(
            f"{usd} USD per million tokens is too high: the limit is {_MAX_USD_PER_MILLION:,}, which is 1 USD per token."
        )
    return rate


def format_rate(micro_usd_per_million: int) -> str:
    """Format a rate in USD with 2 to 6 decimal places: 2_500_000 is "2.50"."""
    whole, places = divmod(micro_usd_per_million, MICRO_USD_PER_USD)
    return f"{whole}.{f'{places:06d}'.rstrip('0').ljust(2, '0')}"


_PICO_USD_PER_USD = 10**12
_PICO_USD_PER_MICRO_USD = 10**6


def make_line_items(tokens: Mapping[TokenClass, int], rate: Rate) -> tuple[LineItem, ...]:
    """Build a line for each class with tokens."""
    return tuple(
        LineItem(
            token_class=token_class,
            tokens=count,
            usd_per_million=format_rate(rate.micro_usd_per_million[token_class]),
            amount_usd=_format_exactly(count * rate.micro_usd_per_million[token_class]),
        )
        for token_class, count in tokens.items()
        if count
    )


def total_micro_usd(tokens: Mapping[TokenClass, int], rate: Rate) -> int:
    """Return what the tokens cost in micro-USD, rounded half up."""
    pico_usd = sum(count * rate.micro_usd_per_million[token_class] for token_class, count in tokens.items())
    return (pico_usd + _PICO_USD_PER_MICRO_USD // 2) // _PICO_USD_PER_MICRO_USD


def _format_exactly(pico_usd: int) -> str:
    """Format an amount with 6 to 12 decimal places: 807_500_000 is "0.0008075"."""
    whole, places = divmod(pico_usd, _PICO_USD_PER_USD)
    return f"{whole}.{f'{places:012d}'.rstrip('0').ljust(6, '0')}"
