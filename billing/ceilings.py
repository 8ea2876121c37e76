"""The most that one request can cost, told before it is sent. A bound, on purpose far above the usual; never a quote."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from billing.estimates import (
    PARTIAL_IMAGE_TOKENS,
    estimate_output_tokens,
    known_qualities,
    known_sizes,
)
from billing.rate_cards import RateCards
from billing.rates import Rate
from contracts.billing import PriceMode
from contracts.request import ImageRequest

_PROMPT_OVERHEAD_TOKENS = 100
"""Around the prompt: some 6 tokens were seen on generations, up to about 80 on edits."""
_INPUT_IMAGE_TOKENS = 48_600 + 6_240
"""The bound over both published rules for image inputs, and the most that high input fidelity adds to a picture."""
_TEXT_OUTPUT_TOKENS = 2_000
"""Beside each picture of a model that emits billable text: 335 were seen."""
_MODEL_LIKE_UNKNOWN_ONES = "gpt-image-2.5-sunburst"
_MARGIN_FOR_UNKNOWN_ONES = 2
"""Twice the dearest quality of 2.5 at that size, where no rule is known: every measurement of 2.6 stayed below once."""


def price_ceiling(
    provider: str,
    model: str,
    request: ImageRequest,
    at: datetime,
    cards: RateCards,
    *,
    mode: PriceMode = "standard",
) -> int | None:
    """The worst case of one request in micro-USD, rounded up; None where no price is known.

    `model` is the one that will be called. All input and all output count at the dearest rate of their side, and the
    input once for each picture asked for, as the provider bills it.

    Raises:
        ValueError: `at` has no time zone.
    """
    rate = cards.charge_rate(provider, model, at, mode)
    return bound_price(model, request, rate) if rate else None


def bound_price(model: str, request: ImageRequest, rate: Rate) -> int:
    """The worst case of one request in micro-USD at these very prices, rounded up."""
    rate_in = rate.dearest_of("input", "image_in", "text_in")
    rate_out = rate.dearest_of("output", "image_out", "text_out")
    pico_usd_each = (
        _bound_input_tokens(request) * rate.micro_usd_per_million[rate_in]
        + _bound_output_tokens(model, request, rate) * rate.micro_usd_per_million[rate_out]
    )
    return -(-request.image_count * pico_usd_each // 10**6)


def _bound_input_tokens(request: ImageRequest) -> int:
    """A token of text is at least a byte. Whether a mask is billed is not published, so it counts as a picture."""
    text = len(request.prompt.encode()) + _PROMPT_OVERHEAD_TOKENS
    return text + len(request.inputs()) * _INPUT_IMAGE_TOKENS


def _bound_output_tokens(model: str, request: ImageRequest, rate: Rate) -> int:
    """Of one picture, with the partial ones that may be shown before it."""
    text = _TEXT_OUTPUT_TOKENS if "text_out" in rate.micro_usd_per_million else 0
    partial = PARTIAL_IMAGE_TOKENS * (request.partial_images or 0)
    if known_sizes(model):
        return text + partial + _dearest_picture(model, request.size, request.quality)
    dearest = _dearest_picture(_MODEL_LIKE_UNKNOWN_ONES, request.size, None)
    return text + _MARGIN_FOR_UNKNOWN_ONES * (partial + dearest)


def _dearest_picture(model: str, size: str | None, quality: str | None) -> int:
    """What size and quality leave open, or name beyond the known rules, counts as the dearest there is."""
    sizes, qualities = known_sizes(model), known_qualities(model)
    return (
        _most_tokens(model, [size], [quality])
        or _most_tokens(model, [size], qualities)
        or _most_tokens(model, sizes, [quality])
        or _most_tokens(model, sizes, qualities)
    )


def _most_tokens(model: str, sizes: Iterable[str | None], qualities: Sequence[str | None]) -> int:
    """0 where no rule is known for any of them."""
    estimates = (estimate_output_tokens(model, size, quality) for size in sizes for quality in qualities)
    return max((tokens for tokens in estimates if tokens), default=0)
