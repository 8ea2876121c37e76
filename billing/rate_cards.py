"""Which price applies to a model at a provider on a day. What prices are written in is `rate_card_files`' business.

Two pairs of cards are shipped, as data in `rate_card_data/`: what we charge and the provider's list price, for requests sent
by themselves and for those in a batch of the provider.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Self, get_args

from billing.rate_card_files import Price, RateCard, digest_rate_card, read_rate_card
from billing.rates import Rate
from contracts.billing import PriceMode

_DATA = Path(__file__).parent / "rate_card_data"
ANY_PROVIDER = "*"
MODES: tuple[PriceMode, ...] = get_args(PriceMode)


@dataclass(frozen=True)
class RateCards:
    """What we charge, and the provider's list price beside it. Of several cards, the first with a price wins.

    `own_card` is a deployment's own. Where it prices a model in one mode only, there is no price in the other: half of
    somebody's price is for them to say.
    """

    charge_cards: tuple[RateCard, ...]
    list_cards: tuple[RateCard, ...]
    own_card: RateCard | None = None

    @classmethod
    def load(cls, own_card: Path | None = None) -> Self:
        """The shipped cards; a deployment's own card is laid over the one that we charge by.

        An own card's id goes onto bills with a digest of its content, so that the id stands for exactly these prices
        even where its author changes them and keeps the id.

        Raises:
            RateCardError: a card cannot be read, or something in it is wrong.
        """
        own = None
        if own_card is not None:
            own = read_rate_card(own_card)
            own = own.model_copy(update={"id": f"{own.id}+{digest_rate_card(own)[:12]}"})
        return cls(_read_pair("charge"), _read_pair("list"), own)

    def charge_rate(
        self, provider: str, model: str, at: datetime, mode: PriceMode = "standard"
    ) -> Rate | None:
        """What we charge for a request sent at that moment, None where no price is known."""
        day = day_of(at)
        if self.own_card and any(_find_rate(self.own_card, provider, model, day, each) for each in MODES):
            return _find_rate(self.own_card, provider, model, day, mode)
        return _find_first(self.charge_cards, provider, model, day, mode)

    def list_rate(self, provider: str, model: str, at: datetime, mode: PriceMode = "standard") -> Rate | None:
        """The provider's list price for a request sent at that moment, None where none is known."""
        return _find_first(self.list_cards, provider, model, day_of(at), mode)

    def find_rate(self, card_id: str, provider: str, model: str, day: date, mode: PriceMode) -> Rate | None:
        """The rate of the shipped card of that id, None where it has none."""
        shipped = (*self.charge_cards, *self.list_cards)
        return _find_first(tuple(card for card in shipped if card.id == card_id), provider, model, day, mode)


def day_of(at: datetime) -> date:
    """The day in UTC whose prices apply at that moment.

    Raises:
        ValueError: the moment has no time zone.
    """
    if at.tzinfo is None:
        raise ValueError(f"{at.isoformat()} has no time zone, so it is not known which day's prices apply.")
    return at.astimezone(UTC).date()


def _read_pair(name: str) -> tuple[RateCard, ...]:
    return (read_rate_card(_DATA / f"{name}.toml"), read_rate_card(_DATA / f"{name}-batch.toml"))


def _find_first(
    cards: tuple[RateCard, ...], provider: str, model: str, day: date, mode: PriceMode
) -> Rate | None:
    rates = (_find_rate(card, provider, model, day, mode) for card in cards)
    return next((rate for rate in rates if rate), None)


def _find_rate(card: RateCard, provider: str, model: str, day: date, mode: PriceMode) -> Rate | None:
    """A price for this very provider goes before one for any; of several that hold, the latest counts."""
    for named in (provider, ANY_PROVIDER):
        holding = [
            price
            for price in card.prices
            if price.provider == named and price.mode == mode and _holds(price, model, day)
        ]
        if holding:
            latest = max(holding, key=lambda price: price.valid_from)
            return Rate(card.id, latest.usd_per_million)
    return None


def _holds(price: Price, model: str, day: date) -> bool:
    return model in price.models and price.valid_from <= day <= (price.valid_until or date.max)
