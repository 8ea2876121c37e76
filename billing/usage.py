"""From the provider's raw usage object to counts that can be priced, or to the reason why they cannot.

The raw object itself is kept elsewhere, verbatim. What a token costs is not known here.
"""

from dataclasses import dataclass

from pydantic import JsonValue

from billing import flags
from contracts.problems import describe_value

MOST_TOKENS = 10**12
"""Beyond it, a count is no usage but a mistake."""


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
    """The counts of a usage object, None where the provider reported none.

    A missing `input_tokens` or `output_tokens` counts as zero and is flagged. Without both there is no usage, unless
    other token counts show that something was used.

    Raises:
        UnbillableUsage: no object, a count that is no whole number from 0 to 10**12, or a zero that other counts deny.
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
    """The counts of a usage object that has to have some.

    Raises:
        UnbillableUsage: as `read_usage`, and where it names neither input_tokens nor output_tokens.
    """
    usage = read_usage(raw)
    if usage is None:
        raise UnbillableUsage("usage names neither input_tokens nor output_tokens.")
    return usage


def read_count(counts: dict[str, JsonValue], place: str, name: str) -> int | None:
    """The count of that name, None where it is absent or null.

    Raises:
        UnbillableUsage: no whole number from 0 to 10**12.
    """
    count = counts.get(name)
    if count is None:
        return None
    if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= MOST_TOKENS:
        field = f"{place}.{name}"
        raise UnbillableUsage(
            f"{field} is {describe_value(field, count)}: a token count has to be a whole number from 0 to {MOST_TOKENS:,}."
        )
    return count


def _refuse_other_counts(raw: dict[str, JsonValue]) -> None:
    """Counts under other names mean that tokens were used: to estimate, or to bill zero, would be to look away."""
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
