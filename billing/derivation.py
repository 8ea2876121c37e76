"""What an entry has to come to, from nothing but what stands on the entry itself: usage and rates. Pure.

Today's rate cards do not matter here. An estimate is derived from the size, quality and number of the pictures. A
correction holds the difference to what was billed for the run before: an adjustment the one between that and its own
usage, a reversal all of it.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from billing.estimates import estimate_output_tokens
from billing.findings import Finding, show_value
from billing.line_items import make_line_items, total_micro_usd
from billing.rates import CLASSES, TOTALS, Rate, TokenClass, parse_rate
from billing.stored_entries import StoredEntry
from billing.token_split import split_tokens
from billing.usage import read_usage
from contracts.billing import Basis, EntryKind, LineItem
from contracts.money import format_usd
from contracts.request import Operation

BASES: Mapping[EntryKind, Basis] = {
    "charge": "token_usage",
    "estimate": "size_quality_estimate",
    "hold": "none",
    "adjustment": "token_usage",
    "reversal": "none",
}
"""The basis that an entry of each kind must have."""
_JSON = ("usage", "rates", "line_items", "list_rates")


class _Bill(BaseModel):
    """What of an entry has to do with its amount, read strictly."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    kind: EntryKind
    basis: Basis
    amount_micro_usd: int | None
    usage: Any
    rate_card: str | None
    rates: dict[TokenClass, str]
    line_items: list[LineItem]
    list_cost_micro_usd: int | None
    list_rate_card: str | None
    list_rates: dict[TokenClass, str]
    operation: Operation
    model: str
    image_count: int
    size: str | None
    quality: str | None
    reason: str | None


class _Amounts(NamedTuple):
    amount_micro_usd: int | None
    line_items: list[LineItem]
    list_cost_micro_usd: int | None


_NOTHING = _Amounts(None, [], None)


def check_amounts(entry: StoredEntry) -> Iterator[Finding]:
    """Where an entry says other than it has to."""
    try:
        bill = _read_bill(entry)
        due = _derive(bill, entry)
    except (ValueError, RecursionError) as error:
        yield entry.find(f"The amount cannot be derived: {_explain(error)}")
        return
    basis = BASES[bill.kind]
    if bill.basis != basis:
        yield entry.find("The basis is not that of its kind.", expected=basis, found=bill.basis)
    if bill.kind == "hold" and not bill.reason:
        yield entry.find("The entry is on hold and does not say why.")
    yield from _compare(entry, bill, due)


def _compare(entry: StoredEntry, bill: _Bill, due: _Amounts) -> Iterator[Finding]:
    for name, expected, found in (
        ("amount", due.amount_micro_usd, bill.amount_micro_usd),
        ("list cost", due.list_cost_micro_usd, bill.list_cost_micro_usd),
    ):
        if expected != found:
            what = f"The {name} is not what usage and rates come to."
            yield entry.find(what, expected=_show_usd(expected), found=_show_usd(found))
    if due.line_items != bill.line_items:
        what = "The line items are not what usage and rates come to."
        yield entry.find(what, expected=_show_lines(due.line_items), found=_show_lines(bill.line_items))


def _read_bill(entry: StoredEntry) -> _Bill:
    parsed = {name: json.loads(entry.columns[name] or "null") for name in _JSON}
    return _Bill.model_validate({**entry.columns, **parsed})


def _derive(bill: _Bill, entry: StoredEntry) -> _Amounts:
    if bill.kind == "reversal":
        return _Amounts(-entry.billed, [], -entry.listed)
    if bill.basis == "none":
        return _NOTHING
    output_format = entry.attempt["output_format"]
    rate = _read_rate(bill.rate_card, bill.rates)
    tokens = _count_tokens(bill, rate, output_format)
    listed = _read_rate(bill.list_rate_card, bill.list_rates) if bill.list_rates else None
    list_cost = total_micro_usd(_count_tokens(bill, listed, output_format), listed) if listed else None
    return _Amounts(
        total_micro_usd(tokens, rate) - entry.billed,
        list(make_line_items(tokens, rate)),
        None if list_cost is None else list_cost - entry.listed,
    )


def _count_tokens(bill: _Bill, rate: Rate, output_format: str | None) -> Mapping[TokenClass, int]:
    usage = read_usage(bill.usage)
    if bill.basis == "token_usage":
        if usage is None:
            raise ValueError("the entry charges for usage, and has none.")
        return split_tokens(usage, rate, bill.operation).tokens
    if usage is not None:
        raise ValueError("the entry is an estimate, although the provider reported usage.")
    each = estimate_output_tokens(bill.model, bill.size, bill.quality, output_format)
    if each is None:
        raise ValueError("no estimate is known for this model, size and quality.")
    return {rate.picture_class: each * bill.image_count}


def _read_rate(card: str | None, rates: Mapping[TokenClass, str]) -> Rate:
    if card is None or (rates.keys() != TOTALS and rates.keys() - {"text_out"} != CLASSES):
        raise ValueError("the entry does not hold the rates of a rate card.")
    return Rate(card, {token_class: parse_rate(usd) for token_class, usd in rates.items()})


def _explain(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"a column that has to hold JSON does not: {error}."
    if isinstance(error, ValidationError):
        detail = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}."
    return str(error)


def _show_usd(micro_usd: int | None) -> str:
    return "none" if micro_usd is None else format_usd(micro_usd)


def _show_lines(items: list[LineItem]) -> str:
    lines = (
        f"{item.token_class} {item.tokens} x {item.usd_per_million} = {item.amount_usd}" for item in items
    )
    return show_value(", ".join(lines) or "none")
