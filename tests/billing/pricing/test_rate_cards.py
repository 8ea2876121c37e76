from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from gpt_image_runs.billing.pricing import rate_cards
from gpt_image_runs.billing.pricing.rate_cards import (
    RateCardError,
    RateCards,
    digest_rate_card,
    read_rate_card,
)
from gpt_image_runs.billing.pricing.rates import format_rate, parse_rate

CARDS = RateCards.load()
DATA = Path(rate_cards.__file__).parent / "rate_card_data"
TODAY = datetime(2026, 11, 23, 12, tzinfo=UTC)

# A card's id is on bills. Whoever changes a card gives it a new id and adds a line; no line is ever changed.
KNOWN_CARDS = {
    "charge-2026-11-04": "c37705aa02886b4121a0b8d46d566cb982093d1030daa2f412a38227ef041e81",
    "list-2026-11-04": "b34feb214470f73e0a58d120354e730bd1cd23da42e041e82fc32777da1f6a57",
    "charge-batch-2026-11-04": "88751af692f44cced1ac752c8c4dbaeb025c78fe9b624e4bb23769c5800e2b1c",
    "list-batch-2026-11-04": "61860776fc7da7e6cdaed90ba2828d4f2f45f51f252ddf10bb3ec027367b7742",
}

MINI = {"text_in": "2.00", "image_in": "2.50", "image_out": "8.00"}
GENERATION_1_5 = {"text_in": "5.00", "image_in": "8.00", "image_out": "32.00", "text_out": "10.00"}
GENERATION_2 = {"text_in": "5.00", "image_in": "8.00", "image_out": "30.00"}
LIST_PRICES = {
    "gpt-image-1-mini": ("2025-10-31", MINI),
    "gpt-image-1.5": ("2025-12-16", GENERATION_1_5),
    "gpt-image-1.5-2025-12-16": ("2025-12-16", GENERATION_1_5),
    "chatgpt-image-latest": ("2025-12-16", GENERATION_1_5),
    "gpt-image-2": ("2026-04-21", GENERATION_2),
    "gpt-image-2-2026-04-21": ("2026-04-21", GENERATION_2),
    "gpt-image-2.5-sunburst": ("2026-09-08", GENERATION_2),
    "gpt-image-2.5-sunburst-2026-09-08": ("2026-09-08", GENERATION_2),
    "gpt-image-2.5-flare": ("2026-09-08", GENERATION_2),
    "gpt-image-2.5-flare-2026-09-08": ("2026-09-08", GENERATION_2),
    "gpt-image-2.6-sunburst": ("2026-11-04", GENERATION_2),
    "gpt-image-2.6-flare": ("2026-11-04", GENERATION_2),
}


def on(day: str) -> datetime:
    return datetime.fromisoformat(f"{day}T12:00:00+00:00")


@pytest.mark.parametrize("name", ["charge", "list", "charge-batch", "list-batch"])
def test_a_card_never_changes_under_its_id(name: str) -> None:
    """A card whose data changed without a new id fails here."""
    card = read_rate_card(DATA / f"{name}.toml")

    assert digest_rate_card(card) == KNOWN_CARDS[card.id]


def test_our_contract_is_the_charge_for_gpt_image_1_at_every_provider() -> None:
    """The charge for gpt-image-1 is 10 and 40 USD per million on the totals, whoever carries it out."""
    for provider in ("openai", "azure", "gateway.example"):
        rate = CARDS.charge_rate(provider, "gpt-image-1", TODAY)

        assert rate is not None
        assert (rate.card, rate.snapshot()) == ("charge-2026-11-04", {"input": "10.00", "output": "40.00"})


def test_the_list_price_of_gpt_image_1_is_per_class() -> None:
    """Beside our contract stands the provider's own price for text, image and output tokens."""
    rate = CARDS.list_rate("openai", "gpt-image-1", on("2025-04-30"))

    assert rate is not None
    assert (rate.card, rate.snapshot()) == (
        "list-2026-11-04",
        {"text_in": "5.00", "image_in": "10.00", "image_out": "40.00"},
    )


@pytest.mark.parametrize("model", LIST_PRICES)
def test_every_other_model_is_charged_its_list_price_from_the_day_of_its_release(model: str) -> None:
    """Both cards hold the published price from the first day on, dated snapshots like their family."""
    released, prices = LIST_PRICES[model]
    for day in (on(released), TODAY):
        charged, listed = CARDS.charge_rate("openai", model, day), CARDS.list_rate("openai", model, day)

        assert charged is not None
        assert listed is not None
        assert charged.snapshot() == listed.snapshot() == prices


@pytest.mark.parametrize(
    ("model", "at"),
    [
        ("gpt-image-2.6-flare", on("2026-11-03")),
        ("gpt-image-9", TODAY),
        ("GPT-IMAGE-2", TODAY),
        ("dall-e-3", TODAY),
    ],
)
def test_unknown_price_is_none(model: str, at: datetime) -> None:
    """No card falls back to another model's price, nor to the price of another day."""
    assert CARDS.charge_rate("openai", model, at) is None
    assert CARDS.list_rate("openai", model, at) is None


def test_the_day_of_a_price_is_the_day_in_utc() -> None:
    """On the eve in Los Angeles it is already the day of the price in UTC; on the morning in Tokyo not yet."""
    los_angeles, tokyo = timezone(timedelta(hours=-8)), timezone(timedelta(hours=9))
    eve, morning = datetime(2026, 11, 3, 16, tzinfo=los_angeles), datetime(2026, 11, 4, 8, tzinfo=tokyo)

    assert CARDS.charge_rate("openai", "gpt-image-2.6-flare", eve) is not None
    assert CARDS.charge_rate("openai", "gpt-image-2.6-flare", morning) is None


def test_a_moment_without_a_time_zone_has_no_day() -> None:
    """A price is never looked up for a day that depends on where the program runs."""
    with pytest.raises(ValueError, match="2026-11-23T12:00:00 has no time zone"):
        CARDS.charge_rate("openai", "gpt-image-2", TODAY.replace(tzinfo=None))


def price(rates: str = '{ input = "1", output = "2" }', **fields: str) -> str:
    written = {
        "provider": '"*"',
        "models": '["gpt-image-2"]',
        "valid_from": "2026-05-01",
        "source": '"our offer"',
        "checked_on": "2026-11-01",
        "usd_per_million": rates,
        **fields,
    }
    return "[[prices]]\n" + "".join(f"{name} = {value}\n" for name, value in written.items() if value)


@pytest.fixture
def own_card(tmp_path: Path) -> Path:
    return tmp_path / "acme.toml"


def load_own(path: Path, *prices: str) -> RateCards:
    path.write_text('id = "acme-1"\n' + "".join(prices), encoding="utf-8")
    return RateCards.load(path)


def charged_output(cards: RateCards, provider: str, model: str, day: str) -> str | None:
    rate = cards.charge_rate(provider, model, on(day))
    return None if rate is None else rate.snapshot().get("output", rate.snapshot().get("image_out"))


def test_an_own_card_is_laid_over_what_we_charge_and_nothing_else(own_card: Path) -> None:
    """Where the own card knows a price it counts; elsewhere, and for list prices, the shipped cards do."""
    cards = load_own(own_card, price())

    assert charged_output(cards, "openai", "gpt-image-2", "2026-11-23") == "2.00"
    assert charged_output(cards, "openai", "gpt-image-2", "2026-04-30") == "30.00"
    assert charged_output(cards, "openai", "gpt-image-1", "2026-11-23") == "40.00"
    assert cards.list_rate("openai", "gpt-image-2", TODAY) == CARDS.list_rate("openai", "gpt-image-2", TODAY)


def test_the_id_of_an_own_card_stands_for_exactly_its_prices(own_card: Path) -> None:
    """An own card that is changed under the same name is another card on the bill; a comment changes nothing."""
    ids = []
    for prices in (price(), f"# said better\n{price()}", price('{ input = "1", output = "3" }')):
        rate = load_own(own_card, prices).charge_rate("openai", "gpt-image-2", TODAY)
        assert rate is not None
        ids.append(rate.card)

    assert ids[0].startswith("acme-1+")
    assert ids[0] == ids[1] != ids[2]


def test_the_latest_price_that_holds_counts_and_the_providers_own_before_any(own_card: Path) -> None:
    """An offer holds through its last day, then the price before it does; a provider's own price goes first."""
    offer = price('{ input = "1", output = "9" }', valid_from="2026-06-01", valid_until="2026-06-30")
    azure = price('{ input = "1", output = "7" }', provider='"azure"', valid_from="2026-05-15")
    cards = load_own(own_card, offer, price(), azure)

    days = ("2026-05-31", "2026-06-01", "2026-06-30", "2026-07-01")
    assert [charged_output(cards, "openai", "gpt-image-2", day) for day in days] == [
        "2.00",
        "9.00",
        "9.00",
        "2.00",
    ]
    assert charged_output(cards, "azure", "gpt-image-2", "2026-06-15") == "7.00"
    assert charged_output(cards, "azure", "gpt-image-2", "2026-05-10") == "2.00"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (
            price('{ input = 2.5, output = "2" }'),
            r"price 1 \(gpt-image-2\), usd_per_million.input: 2.5 is a float",
        ),
        (
            price('{ input = "1", output = 2 }'),
            r"usd_per_million.output: 2 is not a decimal number in quotes",
        ),
        (
            price('{ input = "0.0000001", output = "2" }'),
            r"'0.0000001' is not a decimal number .* at most 6 places",
        ),
        (price('{ input = "-1", output = "2" }'), r"'-1' is not a decimal number"),
        (price('{ input = "1e3", output = "2" }'), r"'1e3' is not a decimal number"),
        (
            price('{ input = "0.00", output = "2" }'),
            r"usd_per_million.input: A price of 0 is not valid",
        ),
        (
            price('{ input = "1000001", output = "2" }'),
            r"1000001 USD per million tokens is too high: the limit is 1,000,000",
        ),
        (price('{ input = "1" }'), r"price 1 \(gpt-image-2\): usd_per_million needs .*; it has input\."),
        (price('{ text_in = "1", image_out = "2" }'), r"it has text_in, image_out\."),
        (price('{ input = "1", output = "2", text_out = "1" }'), r"it has input, output, text_out\."),
        (price('{ inputs = "1", output = "2" }'), r"price 1 \(gpt-image-2\), usd_per_million.inputs: "),
        (
            price() + price(valid_from='"2026-06-01"'),
            r"price 2 \(gpt-image-2\), valid_from: Input should be a valid date",
        ),
        (
            price(valid_until="2026-04-30"),
            r"price 1 .*: valid_until 2026-04-30 is before valid_from 2026-05-01\.",
        ),
        (price(source=""), r"price 1 \(gpt-image-2\), source: Field required\."),
        (price(models="[]"), r"price 1, models: "),
        (price(discount="1"), r"price 1 \(gpt-image-2\), discount: Extra inputs are not permitted\."),
        (price() + price(), r"prices 1 and 2 are both valid from 2026-05-01 for gpt-image-2 at provider \*"),
        ("prices = [1]", r"price 1: Input should be a valid dictionary"),
        ("", r"prices: Field required\."),
        ("prices = [", r"is not valid TOML: "),
    ],
)
def test_invalid_card_is_refused_with_file_entry_and_field(own_card: Path, wrong: str, said: str) -> None:
    """A card is refused whole, naming the file, the entry, the field and what to write."""
    with pytest.raises(RateCardError, match=rf"acme\.toml .*{said}"):
        load_own(own_card, wrong)


def test_missing_card_file_is_refused_with_its_path(tmp_path: Path) -> None:
    """A wrong path says which, and does not fall back to the shipped cards."""
    with pytest.raises(RateCardError, match=r"none\.toml cannot be read: No such file or directory\."):
        RateCards.load(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("written", "micro_usd", "shown"),
    [
        ("2.5", 2_500_000, "2.50"),
        ("40", 40_000_000, "40.00"),
        ("0.000001", 1, "0.000001"),
        ("0.125", 125_000, "0.125"),
    ],
)
def test_rates_are_exact_integers(written: str, micro_usd: int, shown: str) -> None:
    """A price is read to the micro-USD and shown as price lists write it."""
    assert parse_rate(written) == micro_usd
    assert format_rate(micro_usd) == shown


def test_shipped_card_keeps_its_prices_under_its_id() -> None:
    """`verify` holds old entries against these cards: other prices need another id, and the old card stays as it is."""
    cards = RateCards.load()
    assert {card.id: digest_rate_card(card)[:12] for card in (*cards.charge_cards, *cards.list_cards)} == {
        "charge-2026-11-04": "c37705aa0288",
        "charge-batch-2026-11-04": "88751af692f4",
        "list-2026-11-04": "b34feb214470",
        "list-batch-2026-11-04": "61860776fc7d",
    }
