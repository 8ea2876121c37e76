"""Check that an entry which names a shipped rate card holds that card's rates: a card's id never changes its prices. Pure."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any

from gpt_image_runs.billing.pricing.rate_cards import RateCards, day_of
from gpt_image_runs.billing.verification.snapshot import Finding, StoredEntry, show_value
from gpt_image_runs.contracts.billing import PriceMode


def check_pinned_rates(entry: StoredEntry) -> Iterator[Finding]:
    """Yield where an entry's rates differ from those of the shipped card that it names.

    A deployment's own cards are not known here.
    """
    columns, cards = entry.columns, _load_shipped()
    for side, others, name in (("charge", "list", ""), ("list", "charge", "list_")):
        card, rates = columns[f"{name}rate_card"], _parse(columns[f"{name}rates"])
        if not rates:
            continue  # a hold and a reversal have none, and what has an amount is found by its derivation
        if card in cards[others]:
            what = f"The entry's {side} rates are under the id of a {others} card."
            yield entry.find(what, found=show_value(card))
        elif card in cards[side]:
            expected = _find_rates(entry, str(card))
            if rates != expected:
                what = f"The {side} rates are not those of the rate card that the entry names, {card}."
                yield entry.find(what, expected=show_value(expected), found=show_value(rates))


def _find_rates(entry: StoredEntry, card: str) -> Mapping[str, str] | None:
    """Return a shipped card's rates for the entry's model on its day, None where it has none.

    The rates of a batch count only where the attempt was in one.
    """
    columns = entry.columns
    mode: PriceMode = "standard" if entry.attempt["batch_part"] is None else "batch"
    try:
        day = day_of(_read_moment(columns["sent_at"]))
    except (TypeError, ValueError):
        return None
    rate = _load_cards().find_rate(card, columns["provider"], columns["model"], day, mode)
    return rate.snapshot() if rate else None


@cache
def _load_cards() -> RateCards:
    return RateCards.load()


@cache
def _load_shipped() -> dict[str, frozenset[str]]:
    cards = _load_cards()
    return {
        "charge": frozenset(card.id for card in cards.charge_cards),
        "list": frozenset(card.id for card in cards.list_cards),
    }


def _read_moment(stored: Any) -> datetime:
    """Return a stored time as a datetime; SQLite stores it as text in UTC."""
    return stored if isinstance(stored, datetime) else datetime.fromisoformat(stored).replace(tzinfo=UTC)


def _parse(stored: Any) -> Any:
    try:
        return json.loads(stored)
    except (TypeError, ValueError, RecursionError):
        return None
