"""What a run answers, while it runs and when it is done."""

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, Field, JsonValue

from gpt_image_runs.contracts.base import Contract, SparseContract
from gpt_image_runs.contracts.billing import Basis, BillingState, LineItem
from gpt_image_runs.contracts.decisions import OpenDecision
from gpt_image_runs.contracts.images import ImageRef, PartialImage
from gpt_image_runs.contracts.money import Usd
from gpt_image_runs.contracts.request import Operation

_MANY = 1_000_000_000
"""No run has so many attempts."""


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

    error_type: str = Field(min_length=1)
    message: str
    failed_at: Annotated[AwareDatetime, AfterValidator(_in_utc)]
    failures: int | None = Field(default=None, ge=1, le=_MANY)
    attempts: int | None = Field(default=None, ge=0, le=_MANY)
    attempt_id: str | None = None
    tried_again_at: Annotated[AwareDatetime, AfterValidator(_in_utc)] | None = None


Stage = Literal[
    "checking", "generating", "held", "pricing", "recording", "completed", "refused", "failed", "cancelled"
]


class ResultCost(Contract):
    """What the run costs; `amount_usd` is null where it is not known yet (`basis` "none")."""

    amount_usd: Usd | None
    basis: Basis
    flags: tuple[str, ...]
    rate_card: str | None
    list_cost_usd: Usd | None
    line_items: tuple[LineItem, ...]


class ResultBilling(Contract):
    """Where the run stands with finance. `reason` says why it is pending."""

    state: BillingState
    entry_id: str
    reason: str | None


class ResultProvider(Contract):
    """The provider's side: its id of the paid request, and how many requests were sent for this run."""

    name: str
    request_id: str | None
    attempts: int
    simulated: bool


class RunResult(Contract):
    """A run that is done: its pictures and its bill.

    `warnings` are sentences on what differs from what was asked for, such as images that are missing or were deleted since.
    """

    run_id: str
    status: Literal["completed"] = "completed"
    operation: Operation
    model: str
    requested_model: str
    images: tuple[ImageRef, ...]
    usage: JsonValue
    cost: ResultCost
    billing: ResultBilling
    provider: ResultProvider
    warnings: tuple[str, ...] = ()


class RunStatus(Contract):
    """The answer to the query `status`: where the run is, and what is known so far.

    `open_decision` is what somebody has to decide while the stage is "held", else null. `partial_images` are those of the
    latest attempt that showed any. `attempts` is how many requests were sent, as far as the run has heard, null before that.
    `last_error` is why it waits to try again, or why it failed; else null.
    """

    run_id: str
    stage: Stage
    model: str | None = None
    billing_state: BillingState | None = None
    cost_usd: Usd | None = None
    images: int = 0
    warnings: tuple[str, ...] = ()
    reason: str | None = None
    open_decision: OpenDecision | None = None
    partial_images: tuple[PartialImage, ...] = ()
    tenant: str | None = None
    attempts: int | None = None
    last_error: FailedAttempt | None = None
    basis: Basis | None = None
