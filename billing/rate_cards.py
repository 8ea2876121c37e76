"""Which price applies to a model at a provider on a day. What prices are written in is `rate_card_files`' business.

Two cards are shipped, as data in `rate_card_data/`: what we charge, and the provider's list price.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Self

from billing.rate_card_files import Price, RateCard, digest_rate_card, read_rate_card
from billing.rates import Rate

_DATA = Path(__file__).parent / "rate_card_data"
ANY_PROVIDER = "*"


@dataclass(frozen=True)
class RateCards:
    """What we charge, and the provider's list price beside it. Of several charge cards, the first with a price wins."""

    charge_cards: tuple[RateCard, ...]
    list_card: RateCard

    @classmethod
    def load(cls, own_card: Path | None = None) -> Self:
        """The shipped cards; a deployment's own card is laid over the one that we charge by.

        An own card's id goes onto bills with a digest of its content, so that the id stands for exactly these prices
        even where its author changes them and keeps the id.

        Raises:
            RateCardError: a card cannot be read, or something in it is wrong.
        """
        charge_cards = [read_rate_card(_DATA / "charge.toml")]
        if own_card is not None:
            own = read_rate_card(own_card)
            charge_cards.insert(0, own.model_copy(update={"id": f"{own.id}+{digest_rate_card(own)[:12]}"}))
        return cls(tuple(charge_cards), read_rate_card(_DATA / "list.toml"))

    def charge_rate(self, provider: str, model: str, at: datetime) -> Rate | None:
        """What we charge for a request sent at that moment, None where no price is known."""
        day = day_of(at)
        rates = (_find_rate(card, provider, model, day) for card in self.charge_cards)
        return next((rate for rate in rates if rate), None)

    def list_rate(self, provider: str, model: str, at: datetime) -> Rate | None:
        """The provider's list price for a request sent at that moment, None where none is known."""
        return _find_rate(self.list_card, provider, model, day_of(at))


def day_of(at: datetime) -> date:
    """The day in UTC whose prices apply at that moment.

    Raises:
        ValueError: the moment has no time zone.
    """
    if at.tzinfo is None:
        raise ValueError(f"{at.isoformat()} has no time zone, so it is not known which day's prices apply.")
    return at.astimezone(UTC).date()


def _find_rate(card: RateCard, provider: str, model: str, day: date) -> Rate | None:
    """A price for this very provider goes before one for any; of several that hold, the latest counts."""
    for named in (provider, ANY_PROVIDER):
        holding = [price for price in card.prices if price.provider == named and _holds(price, model, day)]
        if holding:
            latest = max(holding, key=lambda price: price.valid_from)
            return Rate(card.id, latest.usd_per_million)
    return None


def _holds(price: Price, model: str, day: date) -> bool:
    return model in price.models and price.valid_from <= day <= (price.valid_until or date.max)
