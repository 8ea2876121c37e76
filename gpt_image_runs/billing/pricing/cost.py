"""Compute what a run costs, from its usage and rate cards: an amount, or the reason why there is none. Pure.

Three ways, in this order: by the tokens that the provider reported; where it reported none, by a flagged estimate of
the output; otherwise no amount until the bill is reconciled. Nothing is zero because something was missing.
"""

from collections.abc import Iterable
from typing import NamedTuple

from gpt_image_runs.billing.pricing import flags
from gpt_image_runs.billing.pricing.estimates import estimate_output_tokens
from gpt_image_runs.billing.pricing.rate_cards import RateCards, day_of
from gpt_image_runs.billing.pricing.rates import Rate, make_line_items, total_micro_usd
from gpt_image_runs.billing.pricing.usage import (
    TokenSplit,
    UnbillableUsage,
    Usage,
    check_usage,
    read_usage,
    split_tokens,
)
from gpt_image_runs.contracts.billing import Basis, Cost, CostInput
from gpt_image_runs.contracts.money import format_usd

HELD_BY_REQUEST = (
    "The provider returned no usage, and this request asks to hold such bills for reconciliation."
)

BILLED_BY_THE_PARTIAL_IMAGE = (
    "The provider returned no usage, and there is no sound estimate with partial images: each that was drawn is billed, and"
    " how many were is not told."
)


class _Priced(NamedTuple):
    """Tokens by the classes of the rate that prices them."""

    rate: Rate
    split: TokenSplit

    @property
    def amount_usd(self) -> str:
        return format_usd(total_micro_usd(self.split.tokens, self.rate))


def compute_cost(order: CostInput, cards: RateCards) -> Cost:
    """Compute the cost of one run. The same input and cards always give the same cost.

    An invalid usage does not raise: the bill is held, with `basis` "none" and a sentence in `reason`.

    Raises:
        ValueError: `sent_at` has no time zone.
    """
    cost = _compute_cost(order, cards)
    # On a hold too: whatever settles it later has to know by which prices.
    extra = (flags.BATCH_PRICE,) if order.mode == "batch" else ()
    return cost.model_copy(update={"flags": flags.sort_flags((*cost.flags, *extra))}) if extra else cost


def _compute_cost(order: CostInput, cards: RateCards) -> Cost:
    if order.usage_problem is not None:
        return _hold(order.usage_problem)
    try:
        usage = read_usage(order.usage)
        check_usage(order.usage, usage, order.images)
    except UnbillableUsage as problem:
        return _hold(str(problem))
    return _cost_without_usage(order, cards) if usage is None else _cost_by_usage(order, cards, usage)


def _cost_by_usage(order: CostInput, cards: RateCards, usage: Usage) -> Cost:
    rate = cards.charge_rate(order.provider, order.model, order.sent_at, order.mode or "standard")
    if rate is None:
        return _hold(_describe_missing_price(order), usage.flags)
    try:
        charged = _Priced(rate, split_tokens(usage, rate, order.operation))
    except UnbillableUsage as problem:
        return _hold(str(problem), usage.flags)
    listed = _list_cost_by_usage(order, cards, usage)
    raised = {*usage.flags, *charged.split.flags}
    if listed and not raised.issuperset(listed.split.flags):
        raised.add(flags.LIST_COST_IS_UPPER_BOUND)
    return _bill("token_usage", charged, listed, raised)


def _list_cost_by_usage(order: CostInput, cards: RateCards, usage: Usage) -> _Priced | None:
    """Return the list cost, None where it cannot be computed.

    Details that only the list price depends on never hold a charge back.
    """
    rate = cards.list_rate(order.provider, order.model, order.sent_at, order.mode or "standard")
    try:
        return _Priced(rate, split_tokens(usage, rate, order.operation)) if rate else None
    except UnbillableUsage:
        return None


def _cost_without_usage(order: CostInput, cards: RateCards) -> Cost:
    """Estimate the output, where the request allows it and a sound estimate exists; else hold."""
    missing = (flags.USAGE_MISSING,)
    if order.missing_usage == "hold":
        return _hold(HELD_BY_REQUEST, missing)
    if order.partial_images:
        return _hold(BILLED_BY_THE_PARTIAL_IMAGE, missing)
    each = estimate_output_tokens(order.model, order.size, order.quality, order.output_format)
    if each is None or order.images < 1:
        return _hold(_describe_missing_estimate(order), missing)
    rate = cards.charge_rate(order.provider, order.model, order.sent_at, order.mode or "standard")
    if rate is None:
        return _hold(_describe_missing_price(order), missing)
    list_rate = cards.list_rate(order.provider, order.model, order.sent_at, order.mode or "standard")
    return _bill(
        "size_quality_estimate",
        _price_pictures(each * order.images, rate),
        _price_pictures(each * order.images, list_rate) if list_rate else None,
        (*missing, flags.ESTIMATED, flags.INPUT_TOKENS_NOT_ESTIMATED),
    )


def _price_pictures(tokens: int, rate: Rate) -> _Priced:
    return _Priced(rate, TokenSplit({rate.picture_class: tokens}, ()))


def _bill(basis: Basis, charged: _Priced, listed: _Priced | None, raised: Iterable[str]) -> Cost:
    return Cost(
        amount_usd=charged.amount_usd,
        basis=basis,
        flags=flags.sort_flags(raised),
        rate_card=charged.rate.card,
        rates=charged.rate.snapshot(),
        line_items=make_line_items(charged.split.tokens, charged.rate),
        list_cost_usd=listed.amount_usd if listed else None,
        list_rate_card=listed.rate.card if listed else None,
        list_rates=listed.rate.snapshot() if listed else {},
    )


def _hold(reason: str, raised: Iterable[str] = ()) -> Cost:
    return Cost(basis="none", reason=reason, flags=flags.sort_flags(raised))


def _describe_missing_price(order: CostInput) -> str:
    day = day_of(order.sent_at)
    kind = "batch price" if order.mode == "batch" else "price"
    return f"No {kind} is known for model {order.model} at provider {order.provider} on {day}."


def _describe_missing_estimate(order: CostInput) -> str:
    known = (
        f"images {order.images}, size {order.size or 'unknown'}, quality {order.quality or 'unknown'},"
        f" format {order.output_format or 'unknown'}"
    )
    return f"The provider returned no usage, and there is no sound estimate for {order.model} ({known})."
