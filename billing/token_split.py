"""How the tokens of a usage divide into the classes of a rate: each token counted once, none lost."""

from dataclasses import dataclass
from typing import NamedTuple

from pydantic import JsonValue

from billing import flags
from billing.rates import Rate, TokenClass
from billing.usage import UnbillableUsage, Usage, read_count
from contracts.problems import describe_value
from contracts.request import Operation


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
    """The usage's tokens by the classes of the rate.

    A rate on totals takes the totals and looks at no details.

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
    """The counts that the details name, none of them where there are no details."""
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
    """What the details leave unnamed goes to the dearer class, so that the classes add up to the total."""
    rest = total - sum(named.values())
    if rest < 0:
        raise UnbillableUsage(
            f"usage.{side.name}_details name {total - rest:,} tokens, more than usage.{side.name}, which is {total:,}."
        )
    if rest == 0:
        return TokenSplit(named, ())
    dearer = rate.dearest_of(side.image, side.text)
    return TokenSplit(named | {dearer: named.get(dearer, 0) + rest}, (flags.DETAILS_DO_NOT_ADD_UP,))
