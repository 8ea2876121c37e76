"""Orders, progress and summaries of economy batches, and what their activities exchange. Amounts are decimal strings in USD.

A batch runs in rounds. A round splits the lines that are not paid yet into parts: one file and one batch of the provider
each. The lines themselves are in the image store, never in Temporal.
"""

from typing import Annotated, Literal

from pydantic import Field

from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.base import Contract, SparseContract
from gpt_image_runs.contracts.batches import Order
from gpt_image_runs.contracts.money import Usd

Endpoint = Literal["/v1/images/generations", "/v1/images/edits"]
# Which lines another round starts: only those that wait, also those that were never paid, or also those of unknown outcome.
EconomyRetry = Literal["waiting", "unpaid", "unknown"]
EconomyStage = Literal["planning", "sending", "waiting", "settling", "closing", "done", "cancelled"]

# The error type of a line that the provider did not start because its batch was cancelled.
BATCH_CANCELLED = "BatchCancelled"


class PlannedPart(Contract):
    """A file to send: lines for one endpoint and one model."""

    number: int = Field(description="Which part it is.")
    endpoint: Endpoint = Field(description="The provider's endpoint for all of its lines.")
    model: str = Field(description="The model of all of its lines.")
    lines: int = Field(description="How many lines.")


class PartProgress(SparseContract):
    """The progress of one part. `provider_batch_id` is None where all its lines were passed over and nothing was sent.

    `closed` is true once every line of it has an outcome.
    """

    part: PlannedPart = Field(description="What is sent.")
    provider_batch_id: str | None = Field(
        default=None, description="The provider's id of it; absent where nothing was sent."
    )
    status: str = Field(
        default="unsent",
        description="The provider's word for how far it is; unsent before, gone where the provider does not know it any more.",
    )
    completed: int = Field(default=0, description="Lines that the provider has answered.")
    failed: int = Field(default=0, description="Lines that it has refused.")
    closed: bool = Field(default=False, description="Whether every line has an outcome.")


class EconomyProgress(SparseContract):
    """The progress of an economy batch: the result of the query `economy`, passed from one run of the workflow to the next.

    `refused` lines are not valid or cannot be in a batch. `looks` counts the polls of the provider.
    """

    round: int = Field(default=0, description="The number of the round.")
    stage: EconomyStage = Field(default="planning", description="How far it is; more stages may be added.")
    refused: int = Field(default=0, description="Lines that were wrong or cannot be in a batch.")
    parts: tuple[PartProgress, ...] = Field(
        default=(), description="The provider's batches that it is split into."
    )
    looks: int = Field(default=0, description="How often the provider was asked.")
    cancelled: bool = Field(default=False, description="Whether somebody has cancelled it.")


class EconomyOrder(Order):
    """An order of a batch that runs in the provider's own batches, at half price.

    Started again after its end, it begins a new round with the lines that are not paid, or with those that `retry` names.
    `max_cost_usd` limits charges and worst cases together; None is what it was before, or no limit. `progress` is passed from
    one run of the workflow to the next; callers leave it out.
    """

    retry: EconomyRetry | None = Field(default=None, description="waiting, unpaid or unknown")
    progress: Annotated[EconomyProgress, Field(strict=False)] | None = Field(
        default=None, description="nothing of yours: what one run of the workflow hands to the next"
    )

    @property
    def workflow_id(self) -> str:
        """The id of the batch's workflow."""
        return names.economy_workflow_id(self.batch_id)

    @property
    def summary(self) -> str:
        """The order in one line, for Temporal's Web UI."""
        return f"{self.lines:,} lines in the provider's own batches{self._limit}"


class EconomySummary(SparseContract):
    """The result of a round. The counts of lines add up to `lines`.

    `done` lines are billed; `without_picture` of them have no image (None in a summary of an older version). `passed` lines
    were paid before, are under way elsewhere, exceed a budget, or were cancelled before they were claimed. `rejected` lines were
    refused by the provider; `not_sent` lines expired, were cancelled, or their batch failed: neither were charged. `unknown`
    lines may have been charged.
    """

    batch_id: str = Field(description="The batch.")
    round: int = Field(description="The number of the round.")
    status: Literal["completed", "cancelled"] = Field(description="completed or cancelled.")
    lines: int = Field(
        description="How many lines there are: done, passed, refused, rejected, not_sent and unknown add up to it."
    )
    done: int = Field(description="Lines that are billed.")
    passed: int = Field(
        description="Lines that were left: paid before, under way elsewhere, beyond a budget, or cancelled before they were claimed."
    )
    refused: int = Field(description="Lines that were wrong or cannot be in a batch.")
    rejected: int = Field(description="Lines that the provider refused; not charged.")
    not_sent: int = Field(
        description="Lines that expired, were cancelled, or whose batch failed; not charged."
    )
    unknown: int = Field(description="Lines that may have been charged, and have no answer.")
    images: int = Field(description="Pictures.")
    without_picture: int | None = Field(
        default=None,
        description="How many of the done lines were billed and have no picture; absent in summaries of older versions.",
    )
    charged_usd: Usd = Field(description="The sum of the bills, a decimal string with 6 places.")
    pending: int = Field(description="Bills without an amount yet.")
    provider_batch_ids: tuple[str, ...] = Field(default=(), description="The provider's batches.")


class EconomyBatchRef(Contract):
    """A batch and its round. The ledger names its parts by `mark` and their number."""

    batch_id: str
    digest: str
    round: int

    @property
    def mark(self) -> str:
        """The prefix of the names of this round's parts in the ledger."""
        return f"{self.batch_id}/{self.digest[:12]}/{self.round}/"

    def part_mark(self, number: int) -> str:
        """Return the name of a part in the ledger."""
        return f"{self.mark}{number}"


class EconomyPlan(Contract):
    """The plan of a round: its parts, and how many lines are refused."""

    round: int
    parts: tuple[PlannedPart, ...]
    refused: int


class PartOrder(SparseContract):
    """A part of a round to claim, send or close. How it ended is set for closing only.

    `untouched`: the provider ended it before it started any of its lines.
    """

    batch: EconomyBatchRef
    part: PlannedPart
    provider_batch_id: str | None = None
    status: str | None = None
    reason: str | None = None
    untouched: bool = False


class RoundOrder(Contract):
    """A round to close."""

    batch: EconomyBatchRef
    lines: int
    refused: int
    cancelled: bool
    provider_batch_ids: tuple[str, ...]


class PartClaim(Contract):
    """How many lines of a part are sent, and how many were passed over: paid before, under way, or doubtful."""

    claimed: int
    passed: int


class SentPart(SparseContract):
    """The provider's batch of a part; None where there was nothing to send, or the provider refused it with `reason`.

    `gone`: it was sent before, and the provider does not list it any more.
    """

    provider_batch_id: str | None = None
    reason: str | None = None
    gone: bool = False


class LookOrder(Contract):
    """Batches of the provider to poll or to cancel."""

    provider_batch_ids: tuple[str, ...]


class SeenBatch(SparseContract):
    """The state of a provider's batch. The status `gone` is ours: the provider does not know the batch any more.

    `untouched`: it has not started any of its lines.
    """

    provider_batch_id: str
    status: str
    has_ended: bool
    completed: int = 0
    failed: int = 0
    output_file_id: str | None = None
    error_file_id: str | None = None
    reason: str | None = None
    untouched: bool = False


class SeenBatches(Contract):
    """Provider batches, in the order in which they were asked for."""

    batches: tuple[SeenBatch, ...]


class SettleOrder(Contract):
    """A section of a result file to settle, from the byte `offset` on."""

    batch: EconomyBatchRef
    part: PlannedPart
    file_id: str
    offset: int = 0


class SettledLines(SparseContract):
    """What was settled, and the offset to continue at; None at the end of the file. `unread` lines cannot be assigned."""

    next_offset: int | None = None
    lines: int = 0
    unread: int = 0
    reason: str | None = None
