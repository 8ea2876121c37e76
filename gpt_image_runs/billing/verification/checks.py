"""Derive each entry's amount again from its own usage and rates, and compare it with its run, attempt and chain. Pure.

Today's rate cards are not used. An estimate is derived from the size, quality and number of the images. A correction
holds the difference to what was billed for the run before: an adjustment to the amount of its own usage, a reversal to
zero.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from gpt_image_runs.billing.hash_chain import ENTRY_HASH, PREVIOUS_HASH, genesis_hash, hash_entry
from gpt_image_runs.billing.pricing.estimates import estimate_output_tokens
from gpt_image_runs.billing.pricing.rates import (
    CLASSES,
    TOTALS,
    Rate,
    TokenClass,
    make_line_items,
    parse_rate,
    total_micro_usd,
)
from gpt_image_runs.billing.pricing.usage import read_usage, split_tokens
from gpt_image_runs.billing.verification.snapshot import Finding, StoredEntry, show_value
from gpt_image_runs.contracts.billing import Basis, EntryKind, LineItem
from gpt_image_runs.contracts.fingerprints import strip_marks
from gpt_image_runs.contracts.money import format_usd
from gpt_image_runs.contracts.request import Operation

# The basis that an entry of each kind must have.
BASES: Mapping[EntryKind, Basis] = {
    "charge": "token_usage",
    "estimate": "size_quality_estimate",
    "hold": "none",
    "adjustment": "token_usage",
    "reversal": "none",
}
_JSON = ("usage", "rates", "line_items", "list_rates")


class _Bill(BaseModel):
    """The columns of an entry that its amount depends on, strictly typed."""

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
    """Yield what is wrong with an entry's amount, list cost, line items and basis."""
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


_OF_THE_RUN = ("tenant", "request_id", "fingerprint", "operation", "requested_model")
_OF_THE_ATTEMPT = (
    "run_id",
    "model",
    "provider",
    "provider_request_id",
    "simulated",
    "sent_at",
    "size",
    "quality",
)


def check_agreement(entry: StoredEntry) -> Iterator[Finding]:
    """Yield where an entry differs from its run or its attempt."""
    for row, known in (("run", entry.run["run_id"]), ("attempt", entry.attempt["attempt_id"])):
        if known is None:
            yield entry.find(f"The entry's {row} is not in the ledger.")
            return
    of_the_run = {name: entry.run[name] for name in _OF_THE_RUN}
    of_the_run["fingerprint"] = strip_marks(of_the_run["fingerprint"])
    yield from _agreement_compare(entry, "run", of_the_run)
    yield from _agreement_compare(entry, "attempt", {name: entry.attempt[name] for name in _OF_THE_ATTEMPT})
    if entry.attempt["outcome"] != "succeeded":
        found = show_value(entry.attempt["outcome"])
        yield entry.find("The attempt that was paid has another outcome.", expected="succeeded", found=found)
    yield from _agreement_compare(entry, "attempt", _expected_images(entry.attempt))
    if entry.columns["corrects"] is None:  # a correction may know of another usage
        yield from _agreement_compare(entry, "attempt", {"usage": _expected_usage(entry.attempt)})


def _expected_images(attempt: dict[str, Any]) -> dict[str, Any]:
    images = _parse(attempt["images"])
    count = len(images) if isinstance(images, list) else 0
    return {"images": attempt["images"] if images else "[]", "image_count": count}


def _expected_usage(attempt: dict[str, Any]) -> str | None:
    response = _parse(attempt["response"])
    usage = response.get("usage") if isinstance(response, dict) else None
    return None if usage is None else json.dumps(usage, separators=(",", ":"))


def _agreement_compare(entry: StoredEntry, row: str, expected: dict[str, Any]) -> Iterator[Finding]:
    for name, value in expected.items():
        found = entry.columns[name]
        if found != value:
            what = f"The entry's {name} is not that of its {row}."
            yield entry.find(what, expected=show_value(value), found=show_value(found))


def _parse(stored: Any) -> Any:
    """Parse a JSON column, None where it is damaged: a comparison with it then fails."""
    try:
        return json.loads(stored) if isinstance(stored, str) else None
    except (ValueError, RecursionError):
        return None


class Head(NamedTuple):
    """The end of a tenant's chain: how many entries it has, and the hash of the last."""

    tenant: str
    entries: int
    entry_hash: str


class ChainCheck:
    """Follows the chains of all tenants, in some 200 bytes for each tenant."""

    def __init__(self) -> None:
        self._ends: dict[str, Head] = {}

    def follow(self, entry: StoredEntry) -> Iterator[Finding]:
        """Yield what is wrong with the entry's place in its chain.

        Each entry is compared with the hash that the previous one holds, so a changed entry causes no findings in later ones.
        """
        stored = entry.columns
        end = self._end_of(stored["tenant"])
        if stored[PREVIOUS_HASH] != end.entry_hash:
            yield entry.find(
                "The chain is broken before this entry: one was taken out, put in, moved or replaced.",
                expected=show_value(end.entry_hash),
                found=show_value(stored[PREVIOUS_HASH]),
            )
        computed = hash_entry(stored)
        if stored[ENTRY_HASH] != computed:
            yield entry.find(
                "The entry was changed after it was written: its hash is another.",
                expected=show_value(stored[ENTRY_HASH]),
                found=computed,
            )
        self._ends[end.tenant] = Head(end.tenant, end.entries + 1, stored[ENTRY_HASH])

    def compare(self, heads: Iterable[Head]) -> Iterator[Finding]:
        """Yield where the ends differ from the heads, once all entries were followed."""
        unsaid = dict(self._ends)
        for head in heads:
            end = unsaid.pop(head.tenant, None) or self._end_of(head.tenant)
            if end != head:
                yield Finding(
                    what="The tenant's chain does not end where its head says: entries were cut off or put on.",
                    tenant=head.tenant,
                    expected=_describe(head),
                    found=_describe(end),
                )
        for end in unsaid.values():
            yield Finding(
                what="The tenant has entries, and no head that says where its chain ends.",
                tenant=end.tenant,
                found=_describe(end),
            )

    def _end_of(self, tenant: str) -> Head:
        return self._ends.get(tenant) or Head(tenant, 0, genesis_hash(str(tenant)))


def _describe(head: Head) -> str:
    return f"{show_value(head.entries)} entries, the last {show_value(head.entry_hash)}"
