"""`models`: list what the catalog and the charge card know of each model today."""

from datetime import UTC, datetime
from typing import Any

from rich.table import Table
from rich.text import Text

from cli import options
from cli.output import Output, make_table
from cli.session import open_session
from gpt_image_runs.billing.pricing.rate_cards import RateCards
from gpt_image_runs.provider.catalog import Catalog, ModelEntry, lifecycle_of

_STYLES = {"live": "green", "deprecated": "yellow", "retired": "dim"}


def models(*, as_json: options.AsJson = False) -> None:
    """List the models: lifecycle, sizes, qualities and prices.

    Prices are those of the charge card, in USD per million tokens.
    """
    session = open_session()
    cards, now = RateCards.load(session.settings.rate_card), datetime.now(UTC)
    listed = [_describe_model(entry, cards, now) for entry in Catalog.load(session.provider).models()]
    document = {"provider": session.provider, "models": listed}
    title = Text(f"Models at {session.provider} on {now.date()}, prices in USD per million tokens", "bold")
    Output(as_json=as_json).answer(document, title, _tabulate(listed))


def _describe_model(entry: ModelEntry, cards: RateCards, now: datetime) -> dict[str, Any]:
    rate = cards.charge_rate(entry.provider, entry.model, now)
    return {
        "model": entry.model,
        "snapshots": list(entry.snapshots),
        "lifecycle": lifecycle_of(entry, now.date()),
        "shutdown": entry.shutdown.isoformat() if entry.shutdown else None,
        "replacement": entry.replacement,
        "sizes": [*entry.sizes, *(["WIDTHxHEIGHT"] if entry.flexible_size else [])],
        "qualities": list(entry.qualities),
        "output_formats": list(entry.output_formats),
        "edits": entry.edits,
        "rate_card": rate.card if rate else None,
        "usd_per_million": rate.snapshot() if rate else None,
    }


def _tabulate(listed: list[dict[str, Any]]) -> Table:
    table = make_table("Model", "Sizes and qualities", "Price", whole=("Model", "Price"))
    for model in listed:
        style = _STYLES[model["lifecycle"]]
        name = Text(model["model"], style="bold").append(f"\n{_describe_life(model)}", style=style)
        takes = f"{' '.join(model['sizes'])}\n{' '.join(model['qualities'])}"
        table.add_row(name, takes, _describe_price(model["usd_per_million"]))
        table.add_section()
    return table


def _describe_life(model: dict[str, Any]) -> str:
    lifecycle, instead = model["lifecycle"], model["replacement"]
    if lifecycle == "live":
        return "live"
    when = "shut down on" if lifecycle == "retired" else "shuts down on"
    return f"{when} {model['shutdown']}" + (f",\nuse {instead}" if instead else "")


def _describe_price(usd_per_million: dict[str, str] | None) -> str:
    if usd_per_million is None:
        return "no price: bills stay pending"
    return "\n".join(f"{name} {usd}" for name, usd in usd_per_million.items())
