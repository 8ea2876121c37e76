"""From tokens and a rate to the lines of a bill and its total. Lines are exact; the total alone is rounded, once."""

from collections.abc import Mapping

from billing.rates import Rate, TokenClass, format_rate
from contracts.billing import LineItem

_PICO_USD_PER_USD = 10**12
_PICO_USD_PER_MICRO_USD = 10**6


def make_line_items(tokens: Mapping[TokenClass, int], rate: Rate) -> tuple[LineItem, ...]:
    """A line for each class of which tokens were used."""
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
    """What the tokens cost in micro-USD, rounded half up."""
    pico_usd = sum(count * rate.micro_usd_per_million[token_class] for token_class, count in tokens.items())
    return (pico_usd + _PICO_USD_PER_MICRO_USD // 2) // _PICO_USD_PER_MICRO_USD


def _format_exactly(pico_usd: int) -> str:
    """An amount as a decimal string with 6 to 12 places: 807_500_000 is "0.0008075"."""
    whole, places = divmod(pico_usd, _PICO_USD_PER_USD)
    return f"{whole}.{f'{places:012d}'.rstrip('0').ljust(6, '0')}"
