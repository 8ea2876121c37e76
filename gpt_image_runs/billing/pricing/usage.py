"""Parse the provider's raw usage object to counts that can be priced, or to the reason why they cannot.

The raw object itself is stored elsewhere, verbatim. Prices are not known here.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from pydantic import JsonValue

from gpt_image_runs.billing.pricing import flags
from gpt_image_runs.billing.pricing.rates import Rate, TokenClass
from gpt_image_runs.contracts.problems import describe_value
from gpt_image_runs.contracts.request import Operation

# A higher count is a mistake of the provider.
MAX_TOKENS = 10**12

_SIDES = ("input", "output")
# How gateways spell the totals and their details, without case and separators: chat names, and other providers' names.
_TOTALS = {
    **dict.fromkeys(("inputtokens", "inputtokencount", "prompttokens", "prompttokencount"), "input"),
    **dict.fromkeys(
        ("outputtokens", "outputtokencount", "completiontokens", "candidatestokencount"), "output"
    ),
    **dict.fromkeys(("totaltokens", "totaltokencount"), "total"),
}
_DETAILS = {
    **dict.fromkeys(("inputtokensdetails", "inputtokendetails", "prompttokensdetails"), "input"),
    **dict.fromkeys(("outputtokensdetails", "outputtokendetails", "completiontokensdetails"), "output"),
}
# Parts of a total that do not overlap. Others do: cached tokens are text or image tokens, too.
_MODALITIES = ("texttokens", "imagetokens", "audiotokens", "videotokens")
_NUMBER = re.compile(r"\s*[+-]?[\d.,_\s]+(e[+-]?\d+)?\s*(tokens?)?\s*", re.IGNORECASE)
# Characters of a field's place in a reason.
_MAX_SHOWN_PATH = 80


class UnbillableUsage(ValueError):
    """A usage that cannot be billed as it stands; the message is the reason that goes onto the hold."""


@dataclass(frozen=True)
class Usage:
    """Checked totals in tokens. The details are still raw: only a price per token class depends on them."""

    input_tokens: int
    output_tokens: int
    input_details: JsonValue
    output_details: JsonValue
    flags: tuple[str, ...]


def read_usage(raw: JsonValue) -> Usage | None:
    """Read the counts of a usage object, None where the provider reported none.

    A missing `input_tokens` or `output_tokens` counts as zero and is flagged. Without both there is no usage, unless
    other token counts show that something was used.

    Raises:
        UnbillableUsage: not an object, a count that is not a whole number from 0 to 10**12, or a zero that other counts
            contradict.
    """
    if raw is None:
        return None
    if not isinstance(raw, dict):
        raise UnbillableUsage(f"usage is {describe_value('usage', raw)}: it has to be an object.")
    input_tokens = read_count(raw, "usage", "input_tokens")
    output_tokens = read_count(raw, "usage", "output_tokens")
    if input_tokens is None and output_tokens is None:
        _refuse_other_counts(raw)
        return None
    return Usage(
        input_tokens or 0,
        output_tokens or 0,
        raw.get("input_tokens_details"),
        raw.get("output_tokens_details"),
        _flag_totals(input_tokens, output_tokens, read_count(raw, "usage", "total_tokens")),
    )


def require_usage(raw: JsonValue) -> Usage:
    """Read a usage object that must have counts.

    Raises:
        UnbillableUsage: as `read_usage` and `check_usage`, and where it names neither input_tokens nor output_tokens.
    """
    usage = read_usage(raw)
    if usage is None:
        raise UnbillableUsage("usage names neither input_tokens nor output_tokens.")
    check_usage(raw, usage)
    return usage


def check_usage(raw: JsonValue, usage: Usage | None, images: int = 0) -> None:
    """Check that a bill by `usage`, which was read from `raw`, leaves out no counter of it.

    A counter that restates a total has to equal it, a detail must not exceed its total, and no other counter of tokens
    may have a value. A missing `input_tokens` or `output_tokens` counts as zero only where no other field reports it.

    `verify` derives entries of the ledger by `read_usage` alone: a check that is added here later fails no old entry.

    Raises:
        UnbillableUsage: a counter that the bill would leave out or that contradicts it, or a count of zero although
            `images` images were delivered.
    """
    counters = list(_list_counters(raw))
    if usage is None or not isinstance(raw, dict):
        for counter in counters:
            if counter.is_of_tokens:
                raise UnbillableUsage(
                    f"usage has neither input_tokens nor output_tokens, but {counter} is {counter.shown}."
                )
        return
    billed = {"input": usage.input_tokens, "output": usage.output_tokens}
    billed["total"] = usage.input_tokens + usage.output_tokens
    missing = [side for side in _SIDES if raw.get(f"{side}_tokens") is None]
    _refuse_exceeded_totals(raw, billed, missing)
    # Where a count is missing or all are zero, a number under any name may be the tokens that the bill leaves out.
    is_any_name = bool(missing) or not billed["total"]
    for counter in counters:
        if (counter.is_of_tokens or is_any_name) and not _is_billed(counter, billed):
            raise UnbillableUsage(_describe_left_out(counter, billed, missing))
    if images > 0:
        _refuse_zeros(billed, missing, images)


def find_unpriced_usage(response: JsonValue) -> str | None:
    """Return why an answer cannot be billed by its `usage` alone, None where it can.

    `svg_usage` is charged beside `usage`, at the rates of a text model, which no rate card holds.
    """
    svg_usage = response.get("svg_usage") if isinstance(response, dict) else None
    counter = next(_list_counters(svg_usage), None)
    if counter is None:
        return None
    place = f"svg_usage.{counter.path}" if counter.path else "svg_usage"
    return f"{place} is {counter.shown}: it is charged beside usage, and no rate card has a price for it."


def read_count(counts: dict[str, JsonValue], place: str, name: str) -> int | None:
    """Return the count of that name, None where it is absent or null.

    Raises:
        UnbillableUsage: not a whole number from 0 to 10**12.
    """
    count = counts.get(name)
    if count is None:
        return None
    if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= MAX_TOKENS:
        field = f"{place}.{name}"
        raise UnbillableUsage(
            f"{field} is {describe_value(field, count)}: a token count has to be a whole number from 0 to {MAX_TOKENS:,}."
        )
    return count


class _Counter(NamedTuple):
    """A number other than zero within a usage object, or a text that is one.

    `field` is the normalized name of the usage's field that it is, or, where `is_nested`, that contains it.
    """

    path: str
    field: str
    is_nested: bool
    is_of_tokens: bool
    value: JsonValue

    def __str__(self) -> str:
        return f"usage.{ascii(self.path)[1:-1]}" if self.path else "usage"

    @property
    def shown(self) -> str:
        is_short = isinstance(self.value, int) and abs(self.value) <= MAX_TOKENS
        return f"{self.value:,}" if is_short else describe_value("usage", self.value)

    @property
    def is_count(self) -> bool:
        return isinstance(self.value, int) and 0 <= self.value <= MAX_TOKENS

    def enter(self, step: str, name: str, value: JsonValue) -> "_Counter":
        """Build the counter for a part of this one."""
        is_of_tokens = self.is_of_tokens or "token" in name
        # Bounded: a provider may nest without limit.
        path = self.path if len(self.path) > _MAX_SHOWN_PATH else f"{self.path}{step[:_MAX_SHOWN_PATH]}"
        return _Counter(path, self.field or name, bool(self.field), is_of_tokens, value)


def _list_counters(raw: JsonValue) -> Iterator[_Counter]:
    """Yield every counter other than zero at any depth, in the order of the object."""
    pending: list[_Counter] = [_Counter("", "", False, False, raw)]
    while pending:
        here = pending.pop()
        value = here.value
        if isinstance(value, dict):
            dot = "." if here.path else ""
            named = [here.enter(f"{dot}{name}", _normalize(name), part) for name, part in value.items()]
            pending += reversed(named)
        elif isinstance(value, list):
            items = [here.enter(f"[{index}]", "", part) for index, part in enumerate(value)]
            pending += reversed(items)
        elif isinstance(value, str):
            if _NUMBER.fullmatch(value) and any(digit.isdigit() and digit != "0" for digit in value):
                yield here
        elif value and not isinstance(value, bool):
            yield here


def _normalize(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _is_billed(counter: _Counter, billed: dict[str, int]) -> bool:
    """Return whether the bill includes what this counter counts."""
    if not counter.is_count or not isinstance(counter.value, int):
        return False
    total = None if counter.is_nested else _TOTALS.get(counter.field)
    if total:
        return counter.value == billed[total]
    side = _DETAILS.get(counter.field)
    return side is not None and counter.value <= billed[side]


def _refuse_exceeded_totals(raw: dict[str, JsonValue], billed: dict[str, int], missing: list[str]) -> None:
    for field, details in raw.items():
        side = _DETAILS.get(_normalize(field))
        if side is None or not isinstance(details, dict):
            continue
        parts = [
            part
            for name, part in details.items()
            if isinstance(part, int) and _normalize(name) in _MODALITIES
        ]
        if sum(parts) > billed[side]:
            total = "missing" if side in missing else f"{billed[side]:,}"
            raise UnbillableUsage(
                f"usage.{field} name {sum(parts):,} tokens, more than usage.{side}_tokens, which is {total}."
            )


def _describe_left_out(counter: _Counter, billed: dict[str, int], missing: list[str]) -> str:
    if counter.is_of_tokens and not counter.is_count:
        return (
            f"{counter} is {counter.shown}: a token count has to be a whole number from 0 to {MAX_TOKENS:,}."
        )
    by = " and ".join(
        f"no {side}_tokens" if side in missing else f"{side}_tokens {billed[side]:,}" for side in _SIDES
    )
    return f"{counter} is {counter.shown}, which does not agree with {by}: a bill by these might leave tokens out."


def _refuse_zeros(billed: dict[str, int], missing: list[str], images: int) -> None:
    """Raise where a reported count is zero although images were delivered.

    A missing count may be a field that a gateway does not know; a zero is a report that an image contradicts.
    """
    zeros = [f"usage.{side}_tokens is 0" for side in _SIDES if side not in missing and not billed[side]]
    if zeros:
        delivered = "a picture was delivered" if images == 1 else f"{images:,} pictures were delivered"
        raise UnbillableUsage(f"{' and '.join(zeros)}, although {delivered}: what it took is not known.")


def _refuse_other_counts(raw: dict[str, JsonValue]) -> None:
    """Raise where only other names report tokens.

    Tokens were used, so neither an estimate nor a bill of zero would be right.
    """
    others = [name for name, value in raw.items() if "tokens" in name and value is not None]
    if others:
        named = describe_value("usage", ", ".join(others))
        raise UnbillableUsage(f"usage has neither input_tokens nor output_tokens, only {named}.")


def _flag_totals(input_tokens: int | None, output_tokens: int | None, total: int | None) -> tuple[str, ...]:
    raised = []
    if input_tokens is None:
        raised.append(flags.INPUT_TOKENS_MISSING)
    if output_tokens is None:
        raised.append(flags.OUTPUT_TOKENS_MISSING)
    summed = (input_tokens or 0) + (output_tokens or 0)
    if total and not summed:
        raise UnbillableUsage(
            f"usage.total_tokens is {total:,}, but input_tokens and output_tokens come to zero."
        )
    if total is not None and total != summed:
        raised.append(flags.TOTAL_TOKENS_MISMATCH)
    if summed == 0:
        raised.append(flags.REPORTED_ZERO)
    return tuple(raised)


class TokenSplit(NamedTuple):
    """Tokens by class, which add up to the usage's totals, and what had to be assumed."""

    tokens: dict[TokenClass, int]
    flags: tuple[str, ...]


@dataclass(frozen=True)
class _Side:
    """Input or output: its name in the usage, and the classes of its text and image tokens."""

    name: str
    text: TokenClass
    image: TokenClass


_INPUT = _Side("input_tokens", "text_in", "image_in")
_OUTPUT = _Side("output_tokens", "text_out", "image_out")


def split_tokens(usage: Usage, rate: Rate, operation: Operation) -> TokenSplit:
    """Split the usage's tokens into the classes of the rate.

    A rate on totals uses the totals and ignores the details.

    Raises:
        UnbillableUsage: the details are malformed, exceed their total, or name tokens that the rate has no price for.
    """
    if rate.is_on_totals:
        return TokenSplit({"input": usage.input_tokens, "output": usage.output_tokens}, ())
    tokens_in = _split_input(usage, rate, operation)
    tokens_out = _split_output(usage, rate)
    return TokenSplit(tokens_in.tokens | tokens_out.tokens, tokens_in.flags + tokens_out.flags)


def _split_input(usage: Usage, rate: Rate, operation: Operation) -> TokenSplit:
    named = _read_details(_INPUT, usage.input_details, rate)
    if named:
        return _place_rest(_INPUT, usage.input_tokens, named, rate)
    if operation == "generate":  # without pictures in the request, its input is text
        return TokenSplit({"text_in": usage.input_tokens}, ())
    dearer = rate.dearest_of("image_in", "text_in")
    return TokenSplit(
        {dearer: usage.input_tokens}, (flags.INPUT_SPLIT_MISSING,) if usage.input_tokens else ()
    )


def _split_output(usage: Usage, rate: Rate) -> TokenSplit:
    named = _read_details(_OUTPUT, usage.output_details, rate)
    if named:
        return _place_rest(_OUTPUT, usage.output_tokens, named, rate)
    dearer = rate.dearest_of("image_out", "text_out")
    # Where the model emits no text, all output is the picture, and nothing had to be assumed.
    assumed = usage.output_tokens and "text_out" in rate.micro_usd_per_million
    return TokenSplit({dearer: usage.output_tokens}, (flags.OUTPUT_SPLIT_MISSING,) if assumed else ())


def _read_details(side: _Side, details: JsonValue, rate: Rate) -> dict[TokenClass, int]:
    """Return the counts that the details name, none where there are no details."""
    place = f"usage.{side.name}_details"
    if details is None:
        return {}
    if not isinstance(details, dict):
        raise UnbillableUsage(f"{place} is {describe_value(place, details)}: it has to be an object.")
    named: dict[TokenClass, int] = {}
    for token_class, field in ((side.text, "text_tokens"), (side.image, "image_tokens")):
        count = read_count(details, place, field)
        if count and token_class not in rate.micro_usd_per_million:
            raise UnbillableUsage(
                f"{place}.{field} is {count}, and {rate.card} has no price for {token_class}."
            )
        if count is not None and token_class in rate.micro_usd_per_million:
            named[token_class] = count
    return named


def _place_rest(side: _Side, total: int, named: dict[TokenClass, int], rate: Rate) -> TokenSplit:
    """Assign tokens that the details do not name to the more expensive class.

    The classes then add up to the total.
    """
    rest = total - sum(named.values())
    if rest < 0:
        raise UnbillableUsage(
            f"usage.{side.name}_details name {total - rest:,} tokens, more than usage.{side.name}, which is {total:,}."
        )
    if rest == 0:
        return TokenSplit(named, ())
    dearer = rate.dearest_of(side.image, side.text)
    return TokenSplit(named | {dearer: named.get(dearer, 0) + rest}, (flags.DETAILS_DO_NOT_ADD_UP,))


def measure_depth(value: JsonValue) -> int:
    """Return the levels of a JSON value: 1 for a number, 2 for a list of numbers."""
    depth, level = 0, [value]
    while level:
        depth += 1
        level = [
            part
            for whole in level
            if isinstance(whole, (dict, list))
            for part in (whole.values() if isinstance(whole, dict) else whole)
        ]
    return depth
