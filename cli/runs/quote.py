"""`quote`: show what a request would cost."""

import asyncio
from datetime import UTC, datetime
from typing import Annotated

from rich.text import Text
from typer import Argument

from cli import options
from cli.files import name_source, read_document, read_source
from cli.output import Output
from cli.runs.start import check_request
from cli.runs.view import describe_lines
from cli.session import open_session
from gpt_image_runs.billing.pricing.quotes import quote_price
from gpt_image_runs.billing.pricing.rate_cards import RateCards
from gpt_image_runs.contracts.quote import Quote, QuoteInput


def quote(
    *,
    file: Annotated[str, Argument(metavar="FILE|-", help="A file with one JSON object, or - for stdin.")],
    as_json: options.AsJson = False,
) -> None:
    """Show what a request would cost, without starting it.

    No server is contacted. The maximum is a bound far above the usual price. The expected price covers the images only, and is shown if it can be estimated.
    """
    payload = read_document(read_source(file), name_source(file))
    session = open_session()
    checked = asyncio.run(check_request(payload, session))
    order = QuoteInput(
        request=checked.request, model=checked.model, provider=session.provider, warnings=checked.warnings
    )
    quoted = quote_price(order, datetime.now(UTC), RateCards.load(session.settings.rate_card))
    output = Output(as_json=as_json)
    for warning in quoted.warnings:
        output.warn(warning)
    output.answer(quoted.model_dump(mode="json"), _describe(quoted))


def _describe(quoted: Quote) -> Text:
    pictures = "1 picture" if quoted.images == 1 else f"{quoted.images} pictures"
    rows = [
        ("expected", _describe_amounts(quoted.expected_usd, quoted.list_expected_usd) or quoted.reason or ""),
        ("", "for the images only; the prompt is billed in addition" if quoted.expected_usd else ""),
        ("at most", _describe_amounts(quoted.ceiling_usd, quoted.list_ceiling_usd) or "not known"),
        ("rate card", quoted.rate_card or ""),
    ]
    return describe_lines(f"{quoted.operation} {pictures} with {quoted.model}", rows)


def _describe_amounts(amount_usd: str | None, list_usd: str | None) -> str:
    if amount_usd is None:
        return ""
    return f"{amount_usd} USD" + (f"; at list price {list_usd} USD" if list_usd else "")
