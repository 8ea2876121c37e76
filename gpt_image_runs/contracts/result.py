"""The result and the status of a run."""

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, Field, JsonValue

from gpt_image_runs.contracts.base import Contract, SparseContract
from gpt_image_runs.contracts.billing import Basis, BillingState, LineItem
from gpt_image_runs.contracts.decisions import OpenDecision
from gpt_image_runs.contracts.images import ImageRef, PartialImage
from gpt_image_runs.contracts.money import Usd
from gpt_image_runs.contracts.request import Operation

# More attempts than any run has.
_MANY = 1_000_000_000


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("it is before the first or after the last year") from None


class FailedAttempt(SparseContract):
    """An attempt that failed. `failures` is how many have by then, also those that sent nothing; `attempts` how many requests
    were sent by then, absent where the ledger could not say. `attempt_id` is the request that failed, absent where none was sent.

    `tried_again_at` is when the next attempt may begin; absent where there is none.
    """

    error_type: str = Field(
        min_length=1, description="The failure's type; docs/reference/failures.md has them all."
    )
    message: str = Field(description="What is wrong and what to do, for people.")
    failed_at: Annotated[AwareDatetime, AfterValidator(_in_utc)] = Field(description="When it failed.")
    failures: int | None = Field(
        default=None,
        ge=1,
        le=_MANY,
        description="How many attempts had failed by then, also those that sent nothing; absent where no further one is made.",
    )
    attempts: int | None = Field(
        default=None,
        ge=0,
        le=_MANY,
        description="Requests that were sent for this run by then; absent where that was not known.",
    )
    attempt_id: str | None = Field(
        default=None,
        description="The request that failed, as the ledger knows it; absent where none was sent.",
    )
    tried_again_at: Annotated[AwareDatetime, AfterValidator(_in_utc)] | None = Field(
        default=None, description="When the next attempt may begin; absent where none is made."
    )


Stage = Literal[
    "checking", "generating", "held", "pricing", "recording", "completed", "refused", "failed", "cancelled"
]


class ResultCost(Contract):
    """What the run costs; `amount_usd` is null where it is not known yet (`basis` "none")."""

    amount_usd: Usd | None = Field(
        description="What is charged, a decimal string with 6 places; null while it is not known. Never a guess and never a silent zero."
    )
    basis: Basis = Field(
        description="token_usage; size_quality_estimate where the provider sent no usage; none where nothing can be billed yet."
    )
    flags: tuple[str, ...] = Field(
        description="What a reader of the bill has to know, as stable words; more may be added."
    )
    rate_card: str | None = Field(description="The id of the prices that were charged by.")
    list_cost_usd: Usd | None = Field(
        description="The same at the provider's list price; null where it cannot be told."
    )
    line_items: tuple[LineItem, ...] = Field(description="How the amount came about, by class of tokens.")


class ResultBilling(Contract):
    """Where the run stands with finance. `reason` says why it is pending."""

    state: BillingState = Field(
        description="billed, estimated (flagged, to be settled), pending (no amount yet) or reconciled."
    )
    entry_id: str = Field(description="The entry in the ledger.")
    reason: str | None = Field(description="Why the bill is pending; null where it is not.")


class ResultProvider(Contract):
    """The provider's side: its id of the paid request, and how many requests were sent for this run."""

    name: str = Field(description="Whose calendar of models and whose prices apply.")
    request_id: str | None = Field(description="The provider's own id of the request that was paid.")
    attempts: int = Field(description="Requests that were sent for this run.")
    simulated: bool = Field(description="Whether the simulator stood in: then no money was spent.")


class RunResult(Contract):
    """A run that is done: its pictures and its bill.

    `warnings` are sentences on what differs from what was asked for, such as images that are missing or were deleted since.
    """

    run_id: str = Field(description="The run's id, image:TENANT:REQUEST_ID.")
    status: Literal["completed"] = Field(
        default="completed", description="Always completed: a run that is not ends as a failed workflow."
    )
    operation: Operation = Field(description="What was done: edit where the request has images.")
    model: str = Field(description="The model that made the pictures, and whose price was charged.")
    requested_model: str = Field(
        description="The model that was asked for; another one where a retired model is replaced."
    )
    images: tuple[ImageRef, ...] = Field(description="The pictures, in the provider's order.")
    usage: JsonValue = Field(description="The provider's usage object, verbatim; null where it sent none.")
    cost: ResultCost = Field(description="What the run costs.")
    billing: ResultBilling = Field(description="Where the run stands with finance.")
    provider: ResultProvider = Field(description="The provider's side.")
    warnings: tuple[str, ...] = Field(
        default=(),
        description="What differs from what was asked for, such as images that are missing or were deleted since, in sentences.",
    )


class RunStatus(Contract):
    """The answer to the query `status`: where the run is, and what is known so far.

    `open_decision` is what somebody has to decide while the stage is "held", else null. `partial_images` are those of the
    latest attempt that showed any. `attempts` is how many requests were sent, as far as the run has heard, null before that.
    `last_error` is why it waits to try again, or why it failed; else null.
    """

    run_id: str = Field(description="The run's id.")
    stage: Stage = Field(description="How far it is; more stages may be added.")
    model: str | None = Field(default=None, description="The model that is called, once that is settled.")
    billing_state: BillingState | None = Field(
        default=None, description="As in the result, once it is known."
    )
    cost_usd: Usd | None = Field(
        default=None, description="A decimal string with 6 places, once it is known."
    )
    images: int = Field(default=0, description="Pictures that are kept so far.")
    warnings: tuple[str, ...] = Field(default=(), description="Sentences for an operator.")
    reason: str | None = Field(
        default=None, description="Why the run was refused, failed, or has a pending bill."
    )
    open_decision: OpenDecision | None = Field(
        default=None, description="What somebody has to decide while the stage is held; else null."
    )
    partial_images: tuple[PartialImage, ...] = Field(
        default=(),
        description="Pictures that were shown before the last one was done, of the latest attempt. They are not results.",
    )
    tenant: str | None = Field(default=None, description="Whose run it is, once that is settled.")
    attempts: int | None = Field(
        default=None,
        description="Requests that were sent for this run, as far as it has heard; null before that.",
    )
    last_error: FailedAttempt | None = Field(
        default=None,
        description="Why the run waits to try again (its call, or its bill), or why it failed; null once the next one has worked.",
    )
    basis: Basis | None = Field(
        default=None, description="What the cost rests on, as in the result, once it is computed."
    )
