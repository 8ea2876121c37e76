"""Quote a request: its worst case, as it is reserved, and the estimate, as it would be billed without usage. Pure."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from gpt_image_runs.billing.pricing.estimates import (
    PARTIAL_IMAGE_TOKENS,
    estimate_output_tokens,
    known_qualities,
    known_sizes,
)
from gpt_image_runs.billing.pricing.rate_cards import RateCards, day_of
from gpt_image_runs.billing.pricing.rates import Rate, total_micro_usd
from gpt_image_runs.contracts.billing import PriceMode
from gpt_image_runs.contracts.money import format_usd
from gpt_image_runs.contracts.quote import Quote, QuoteInput
from gpt_image_runs.contracts.request import ImageRequest

# Around the prompt: some 6 tokens were measured on generations, up to about 80 on edits.
_PROMPT_OVERHEAD_TOKENS = 100
# The bound over both published rules for image inputs, and the most that high input fidelity adds to an image.
_INPUT_IMAGE_TOKENS = 48_600 + 6_240
# Beside each image of a model that emits billable text: 335 were measured.
_TEXT_OUTPUT_TOKENS = 2_000
# Where no rule is known: twice the most expensive quality of 2.5 at that size. Every measurement of 2.6 was below once.
_MODEL_LIKE_UNKNOWN_ONES = "gpt-image-2.5-sunburst"
_MARGIN_FOR_UNKNOWN_ONES = 2


def price_ceiling(
    provider: str,
    model: str,
    request: ImageRequest,
    at: datetime,
    cards: RateCards,
    *,
    mode: PriceMode = "standard",
) -> int | None:
    """Return the worst case of one request in micro-USD, rounded up; None where no price is known.

    `model` is the one that will be called. All input and all output count at the most expensive rate of their side, and the
    input once for each image asked for, as the provider bills it.

    Raises:
        ValueError: `at` has no time zone.
    """
    rate = cards.charge_rate(provider, model, at, mode)
    return bound_price(model, request, rate) if rate else None


def bound_price(model: str, request: ImageRequest, rate: Rate) -> int:
    """Return the worst case of one request in micro-USD at this rate, rounded up."""
    rate_in = rate.dearest_of("input", "image_in", "text_in")
    rate_out = rate.dearest_of("output", "image_out", "text_out")
    pico_usd_each = (
        _bound_input_tokens(request) * rate.micro_usd_per_million[rate_in]
        + _bound_output_tokens(model, request, rate) * rate.micro_usd_per_million[rate_out]
    )
    return -(-request.image_count * pico_usd_each // 10**6)


def _bound_input_tokens(request: ImageRequest) -> int:
    """Bound the input tokens: a text token is at least a byte.

    Whether a mask is billed is not published, so it counts as an image.
    """
    text = len(request.prompt.encode()) + _PROMPT_OVERHEAD_TOKENS
    return text + len(request.inputs()) * _INPUT_IMAGE_TOKENS


def _bound_output_tokens(model: str, request: ImageRequest, rate: Rate) -> int:
    """Bound the output tokens of one image, with its partial images."""
    text = _TEXT_OUTPUT_TOKENS if "text_out" in rate.micro_usd_per_million else 0
    partial = PARTIAL_IMAGE_TOKENS * (request.partial_images or 0)
    if known_sizes(model):
        return text + partial + _dearest_picture(model, request.size, request.quality)
    dearest = _dearest_picture(_MODEL_LIKE_UNKNOWN_ONES, request.size, None)
    return text + _MARGIN_FOR_UNKNOWN_ONES * (partial + dearest)


def _dearest_picture(model: str, size: str | None, quality: str | None) -> int:
    """Return the most tokens that an image of this size and quality can take.

    A size or quality that is open, or has no known rule, counts as the most expensive one.
    """
    sizes, qualities = known_sizes(model), known_qualities(model)
    return (
        _most_tokens(model, [size], [quality])
        or _most_tokens(model, [size], qualities)
        or _most_tokens(model, sizes, [quality])
        or _most_tokens(model, sizes, qualities)
    )


def _most_tokens(model: str, sizes: Iterable[str | None], qualities: Sequence[str | None]) -> int:
    """Return the most tokens, 0 where no rule is known for any of them."""
    estimates = (estimate_output_tokens(model, size, quality) for size in sizes for quality in qualities)
    return max((tokens for tokens in estimates if tokens), default=0)


def quote_price(order: QuoteInput, at: datetime, cards: RateCards) -> Quote:
    """Quote a valid request, by the prices of that moment.

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
    """Estimate the output tokens of all images, None for an edit.

    An edit's input can cost more than its output, and no rule says how much.
    """
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
