"""Price an attempt that was paid, from its own row and the rate cards alone. Pure.

What a workflow passes in decides nothing that could lower an amount: usage, model, provider, mode, day and number
of images are those that the ledger recorded itself.
"""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from pydantic import JsonValue

from gpt_image_runs.billing.pricing.cost import compute_cost
from gpt_image_runs.billing.pricing.rate_cards import RateCards
from gpt_image_runs.billing.pricing.usage import find_unpriced_usage, measure_depth
from gpt_image_runs.contracts.billing import Cost, CostInput
from gpt_image_runs.contracts.fingerprints import has_field
from gpt_image_runs.contracts.request import MissingUsage

# Characters of usage that go through Temporal: 50 times the real one, and far below its limit of 2 MiB, beyond which
# Temporal would reject the result after the provider was paid.
MAX_USAGE = 16 * 1024
# Levels of nesting: the real one has three, and its conversion fails at some hundreds.
MAX_USAGE_DEPTH = 20
# Our own field in a recorded answer that is incomplete: why its usage alone cannot be billed. The bill is held.
USAGE_PROBLEM = "usage_problem"
_MAX_NOTE = 1_000


class PricedFacts(NamedTuple):
    """The facts of an attempt and its run that its price depends on. `fingerprint` is the run's, with its marks."""

    attempt_id: str
    fingerprint: str
    response: JsonValue
    is_batch: bool
    columns: dict[str, Any]
    output_format: str | None


def price_paid_attempt(paid: PricedFacts, handed: Cost, cards: RateCards) -> Cost:
    """Compute the cost of an attempt that was paid.

    `handed` is the cost that the workflow got from `compute_cost`. Where the provider reported no usage, it says whether
    the request wanted an estimate or a hold, which the attempt does not know. Everything else in it is ignored.
    """
    candidates = list(_compute_candidates(paid, cards))
    same = (cost for cost in candidates if cost == handed)
    alike = (cost for cost in candidates if cost.basis == handed.basis)
    return next(same, None) or next(alike, None) or candidates[0]


def limit_usage_size(response: JsonValue, attempt_id: str) -> tuple[JsonValue, str | None]:
    """Return an answer's usage if it is small enough to pass on, and why it cannot be billed by it, or None."""
    fields = response if isinstance(response, dict) else {}
    usage, noted = fields.get("usage"), fields.get(USAGE_PROBLEM)
    size, depth = len(json.dumps(usage)), measure_depth(usage)
    if size <= MAX_USAGE and depth <= MAX_USAGE_DEPTH:
        return usage, noted[:_MAX_NOTE] if isinstance(noted, str) and noted else find_unpriced_usage(response)
    return None, (
        f"The provider's usage has {size:,} characters in {depth} levels, more than the {MAX_USAGE:,} in"
        f" {MAX_USAGE_DEPTH} that are read; it is stored whole with attempt {attempt_id}."
    )


def _compute_candidates(paid: PricedFacts, cards: RateCards) -> Iterator[Cost]:
    """Yield the only costs that this attempt can have. With usage they are all the same."""
    # The number that was asked for is not known here and does not matter: with any there is no estimate.
    partial_images = 1 if has_field(paid.fingerprint, "partial_images") else None
    wanted: tuple[MissingUsage, ...] = ("estimate", "hold")
    for missing_usage in wanted:
        yield compute_cost(_make_input(paid, missing_usage, partial_images), cards)


def _make_input(paid: PricedFacts, missing_usage: MissingUsage, partial_images: int | None) -> CostInput:
    usage, usage_problem = limit_usage_size(paid.response, paid.attempt_id)
    columns = paid.columns
    return CostInput(
        provider=columns["provider"],
        model=columns["model"],
        usage=usage,
        usage_problem=usage_problem,
        missing_usage=missing_usage,
        operation=columns["operation"],
        images=columns["image_count"],
        size=columns["size"],
        quality=columns["quality"],
        output_format=paid.output_format,
        sent_at=columns["sent_at"],
        mode="batch" if paid.is_batch else None,
        partial_images=partial_images,
    )
