"""Rate cards: their file format, and which price applies to a model at a provider on a day.

Two pairs of cards are shipped in `rate_card_data/`: what we charge and the provider's list price, for requests sent
by themselves and for those in a batch of the provider.
"""

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any, Self, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from gpt_image_runs.billing.pricing.rates import CLASSES, TOTALS, Rate, TokenClass, parse_rate
from gpt_image_runs.contracts.billing import PriceMode

Name = Annotated[str, Field(min_length=1, max_length=128)]


class RateCardError(ValueError):
    """A rate card that cannot be used; the message says which file, entry and field, and what to write."""


class Price(BaseModel):
    """A dated price of one or more models at a provider; provider "*" is any. `valid_until` is the last day, in UTC.

    It holds for requests that are sent in that `mode`: by themselves, or in a batch of the provider.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    provider: Name
    mode: PriceMode = "standard"
    models: Annotated[tuple[Name, ...], Field(min_length=1, strict=False)]
    valid_from: date
    valid_until: date | None = None
    source: Name
    checked_on: date
    usd_per_million: dict[TokenClass, Annotated[int, BeforeValidator(parse_rate)]]

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        named = self.usd_per_million.keys()
        if named != TOTALS and named - {"text_out"} != CLASSES:
            raise ValueError(
                "usd_per_million needs either input and output,"
                f" or text_in, image_in, image_out and, if need be, text_out; it has {', '.join(named) or 'nothing'}."
            )
        if self.valid_until and self.valid_until < self.valid_from:
            raise ValueError(f"valid_until {self.valid_until} is before valid_from {self.valid_from}.")
        return self


class RateCard(BaseModel):
    """The content of one file. Every bill names the `id`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
    prices: Annotated[tuple[Price, ...], Field(min_length=1, strict=False)]

    @model_validator(mode="after")
    def _refuse_two_prices_at_once(self) -> Self:
        seen: dict[tuple[str, str, str, date], int] = {}
        for number, price in enumerate(self.prices, start=1):
            for model in price.models:
                first = seen.setdefault((price.provider, price.mode, model, price.valid_from), number)
                if first != number:
                    raise ValueError(
                        f"prices {first} and {number} are both valid from {price.valid_from}"
                        f" for {model} at provider {price.provider}. Keep one, or give the newer a later valid_from."
                    )
        return self


def read_rate_card(path: Path) -> RateCard:
    """Read the rate card in a TOML file.

    Raises:
        RateCardError: the file cannot be read, or something in it is wrong.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RateCardError(f"The rate card {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:  # not UTF-8 or not TOML
        raise RateCardError(f"The rate card {path} is not valid TOML: {error}.") from error
    try:
        return RateCard.model_validate(content)
    except ValidationError as error:
        raise RateCardError(f"The rate card {path} cannot be used: {_describe(error, content)}") from error


def digest_rate_card(card: RateCard) -> str:
    """Return the SHA-256, in hex, of a card's content without comments and layout."""
    said = card.model_dump(mode="json")
    for price in said["prices"]:
        # The default is left out. The ids of own cards contain this digest, so it must never change.
        if price["mode"] == "standard":
            del price["mode"]
    content = json.dumps(said, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def _describe(error: ValidationError, content: Mapping[str, Any]) -> str:
    """Format the first thing that is wrong, by entry and field."""
    detail = error.errors(include_url=False)[0]
    place = [part for part in detail["loc"] if part != "[key]"]
    message = str(detail.get("ctx", {}).get("error", "")) or f"{detail['msg']}."
    if not place:
        return message
    if place[0] == "prices" and len(place) > 1 and isinstance(place[1], int):
        entry = content["prices"][place[1]]
        models = entry.get("models") if isinstance(entry, dict) else None
        named = f" ({models[0]})" if isinstance(models, list) and models else ""
        place = [f"price {place[1] + 1}{named}", ".".join(map(str, place[2:]))]
    return f"{', '.join(str(part) for part in place if part != '')}: {message}"


_DATA = Path(__file__).parent / "rate_card_data"
ANY_PROVIDER = "*"
MODES: tuple[PriceMode, ...] = get_args(PriceMode)


@dataclass(frozen=True)
class RateCards:
    """What we charge, and the provider's list price beside it. Of several cards, the first with a price wins.

    `own_card` is a deployment's own. Where it prices a model in one mode only, there is no price in the other mode: we do not
    combine its price with a shipped one.
    """

    charge_cards: tuple[RateCard, ...]
    list_cards: tuple[RateCard, ...]
    own_card: RateCard | None = None

    @classmethod
    def load(cls, own_card: Path | None = None) -> Self:
        """Load the shipped cards, and a deployment's own card that takes precedence over what we charge.

        Bills name an own card by its id and a digest of its content, so that the name stands for exactly these prices
        even where its author changes them and leaves the id.

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
        """Return what we charge for a request sent at that time, None where no price is known."""
        day = day_of(at)
        if self.own_card and any(_find_rate(self.own_card, provider, model, day, each) for each in MODES):
            return _find_rate(self.own_card, provider, model, day, mode)
        return _find_first(self.charge_cards, provider, model, day, mode)

    def list_rate(self, provider: str, model: str, at: datetime, mode: PriceMode = "standard") -> Rate | None:
        """Return the list price of a request sent at that time, None where none is known."""
        return _find_first(self.list_cards, provider, model, day_of(at), mode)

    def find_rate(self, card_id: str, provider: str, model: str, day: date, mode: PriceMode) -> Rate | None:
        """Return the rate of the shipped card of that id, None where it has none."""
        shipped = (*self.charge_cards, *self.list_cards)
        return _find_first(tuple(card for card in shipped if card.id == card_id), provider, model, day, mode)


def day_of(at: datetime) -> date:
    """Return the day in UTC whose prices apply at that time.

    Raises:
        ValueError: the time has no time zone.
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
    """Return the latest price, one for this provider before one for any; None without one."""
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
