"""Input and output of `compute_cost` and `record_billing`. Amounts are decimal strings in USD."""

from datetime import datetime
from typing import Literal

from pydantic import Field, JsonValue

from gpt_image_runs.contracts.base import Contract, SparseContract
from gpt_image_runs.contracts.money import Usd
from gpt_image_runs.contracts.request import MissingUsage, Operation

Basis = Literal["token_usage", "size_quality_estimate", "none"]
BillingState = Literal["billed", "estimated", "pending", "reconciled"]
EntryKind = Literal["charge", "estimate", "hold", "adjustment", "reversal"]
# Which price of a model applies: for a single request, or for a line in a provider batch.
PriceMode = Literal["standard", "batch"]


class LineItem(Contract):
    """One class of tokens on a bill: `amount_usd` is exact (up to 12 places), the total alone is rounded."""

    token_class: str = Field(description="input, output, text_in, image_in, text_out or image_out.")
    tokens: int = Field(description="How many.")
    usd_per_million: str = Field(description="The price of a million of them, a decimal string.")
    amount_usd: Usd = Field(description="Their share of the amount, exactly: up to 12 places.")


class CostInput(SparseContract):
    """What a price depends on. `usage` is the provider's object, verbatim, or None; `images` is how many were returned.

    `mode` None means "standard". `partial_images` is how many of them were asked for.
    """

    provider: str
    model: str
    usage: JsonValue = None
    usage_problem: str | None = None
    missing_usage: MissingUsage
    operation: Operation
    images: int
    size: str | None = None
    quality: str | None = None
    output_format: str | None = None
    sent_at: datetime
    mode: PriceMode | None = None
    partial_images: int | None = None


class Cost(SparseContract):
    """An amount and how it came about.

    `amount_usd` is None exactly where `basis` is "none": then `reason` says why nothing can be billed yet.
    `flags` name what a reader of the bill has to know (see `gpt_image_runs.billing.pricing.flags`). `rates` and `list_rates` are the
    snapshots that the amounts can be derived from again: USD per million tokens by token class.
    """

    amount_usd: Usd | None = None
    basis: Basis
    flags: tuple[str, ...] = ()
    reason: str | None = None
    rate_card: str | None = None
    rates: dict[str, str] = Field(default_factory=dict)
    line_items: tuple[LineItem, ...] = ()
    list_cost_usd: Usd | None = None
    list_rate_card: str | None = None
    list_rates: dict[str, str] = Field(default_factory=dict)


class BillingInput(Contract):
    """What a run's line in the ledger says that the ledger does not know yet.

    The rest (who asked, pictures, usage, model) it copies from its own rows of the run and of the attempt that was paid.
    """

    run_id: str
    attempt_id: str
    cost: Cost
    metadata: dict[str, str] = Field(default_factory=dict)


class BillingRecord(SparseContract):
    """A run's billing state and the entry that gave it. `reason` says why a run is pending.

    `cost` is set where the run was billed before, by a cost that differs from the one given now: the entry stands.
    """

    state: BillingState
    entry_id: str
    reason: str | None = None
    cost: Cost | None = None
