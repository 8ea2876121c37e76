"""`quote_price`: what a request would cost. Reads the rate cards and the clock, writes nothing."""

from datetime import UTC, datetime

from temporalio import activity

from billing.quotes import quote_price
from billing.rate_cards import RateCards
from contracts import names
from contracts.quote import Quote, QuoteInput


class PriceQuoter:
    """Quotes prices by the cards that the worker was started with: those that it would bill by."""

    def __init__(self, cards: RateCards) -> None:
        self._cards = cards

    @activity.defn(name=names.QUOTE_PRICE)
    async def quote_price(self, order: QuoteInput) -> Quote:
        """The worst case and the expected price, at today's prices."""
        return quote_price(order, datetime.now(UTC), self._cards)
