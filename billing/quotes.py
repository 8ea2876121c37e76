"""What a request would cost: the worst case as it is reserved, and the estimate as it would be billed without usage. Pure."""

from datetime import datetime

from billing.ceilings import bound_price
from billing.estimates import PARTIAL_IMAGE_TOKENS, estimate_output_tokens
from billing.line_items import total_micro_usd
from billing.rate_cards import RateCards, day_of
from billing.rates import Rate
from contracts.money import format_usd
from contracts.quote import Quote, QuoteInput
from contracts.request import ImageRequest


def quote_price(order: QuoteInput, at: datetime, cards: RateCards) -> Quote:
    """The quote of a request that was checked, by the prices of that moment.

    Raises:
        ValueError: `at` has no time zone.
    """
    request, model = order.request, order.model
    rate = cards.charge_rate(order.provider, model, at)
    list_rate = cards.list_rate(order.provider, model, at)
    tokens = _estimate_tokens(model, request)
    expected = _price_pictures(tokens, rate)
    return Quote(
        operation=request.operation,
        model=model,
        requested_model=request.model,
        provider=order.provider,
        images=request.image_count,
        ceiling_usd=_bound(model, request, rate),
        expected_usd=expected,
        reason=None if expected else _explain(order, at, has_price=rate is not None),
        rate_card=rate.card if rate else None,
        list_ceiling_usd=_bound(model, request, list_rate),
        list_expected_usd=_price_pictures(tokens, list_rate),
        list_rate_card=list_rate.card if list_rate else None,
        warnings=order.warnings,
    )


def _estimate_tokens(model: str, request: ImageRequest) -> int | None:
    """Output tokens of all pictures. None for an edit: its input can cost more than its output, and no rule says how much."""
    if request.operation == "edit":
        return None
    each = estimate_output_tokens(model, request.size, request.quality, request.output_format)
    partial = PARTIAL_IMAGE_TOKENS * (request.partial_images or 0)
    return None if each is None else (each + partial) * request.image_count


def _bound(model: str, request: ImageRequest, rate: Rate | None) -> str | None:
    return format_usd(bound_price(model, request, rate)) if rate else None


def _price_pictures(tokens: int | None, rate: Rate | None) -> str | None:
    if tokens is None or rate is None:
        return None
    return format_usd(total_micro_usd({rate.picture_class: tokens}, rate))


def _explain(order: QuoteInput, at: datetime, *, has_price: bool) -> str:
    request = order.request
    if not has_price:
        return (
            f"No price is known for model {order.model} at provider {order.provider} on {day_of(at)}:"
            " the bill would wait for one."
        )
    if request.operation == "edit":
        return "There is no sound estimate of what the pictures to edit cost as input."
    if request.size in {None, "auto"} or request.quality in {None, "auto"}:
        return "Size or quality is left to the provider: name both for an expected price."
    return (
        f"There is no sound estimate for {order.model} at size {request.size} and quality {request.quality}."
    )
