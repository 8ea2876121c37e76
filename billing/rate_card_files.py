"""From a rate card's TOML file to checked prices, or to a sentence naming file, entry and field that are wrong.

Which of the prices applies is `rate_cards`' business.
"""

import hashlib
import json
import tomllib
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from billing.rates import CLASSES, TOTALS, TokenClass, parse_rate
from contracts.billing import PriceMode

Name = Annotated[str, Field(min_length=1, max_length=128)]


class RateCardError(ValueError):
    """A rate card that cannot be used; the message says which file, entry and field, and what to write."""


class Price(BaseModel):
    """A dated price of one or more models at a provider, "*" being any. `valid_until` is the last day, in UTC.

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
    """All that one file holds. Its `id` is named on every bill."""

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
    """The rate card in a TOML file.

    Raises:
        RateCardError: the file cannot be read, or something in it is wrong.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RateCardError(f"The rate card {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:  # no UTF-8 or no TOML
        raise RateCardError(f"The rate card {path} is not valid TOML: {error}.") from error
    try:
        return RateCard.model_validate(content)
    except ValidationError as error:
        raise RateCardError(f"The rate card {path} cannot be used: {_describe(error, content)}") from error


def digest_rate_card(card: RateCard) -> str:
    """The SHA-256 of everything that a card says, comments and layout aside."""
    said = card.model_dump(mode="json")
    for price in said["prices"]:
        if price["mode"] == "standard":  # cards from before there was a mode keep their digests
            del price["mode"]
    content = json.dumps(said, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def _describe(error: ValidationError, content: Mapping[str, Any]) -> str:
    """The first thing that is wrong, by entry and field."""
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
