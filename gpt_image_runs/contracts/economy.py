"""Input and output of the workflow `EconomyBatch` and its activities. Amounts are decimal strings in USD.

A batch runs in rounds. A round splits the lines that are not paid yet into parts: one file and one batch of the provider each.
The lines themselves are in the image store, never in Temporal.
"""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, StringConstraints

from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.base import Contract, SparseContract
from gpt_image_runs.contracts.money import Usd

Endpoint = Literal["/v1/images/generations", "/v1/images/edits"]
# Which lines another round starts: those that wait alone, also those that were never paid, or those of unknown outcome
# too.
EconomyRetry = Literal["waiting", "unpaid", "unknown"]
EconomyStage = Literal["planning", "sending", "waiting", "settling", "closing", "done", "cancelled"]

BATCH_ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
MAX_LINES = 100_000
# The error type of a line that the provider did not process because its batch was cancelled.
BATCH_CANCELLED = "BatchCancelled"


class PlannedPart(Contract):
    """A file that is to be sent: lines of one endpoint and one model."""

    number: int = Field(description="Which part it is.")
    endpoint: Endpoint = Field(description="The provider's endpoint for all of its lines.")
    model: str = Field(description="The model of all of its lines.")
    lines: int = Field(description="How many lines.")


class PartProgress(SparseContract):
    """How far a part is. `provider_batch_id` is None where all of its lines were passed over, so that nothing was sent.

    `closed` once every line of it has an outcome.
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
    """Where an economy batch stands: the answer to the query `economy`, and what one run of the workflow hands to the next.

    `refused` lines were wrong or cannot be in a batch.
    """

    round: int = Field(default=0, description="The number of the round.")
    stage: EconomyStage = Field(default="planning", description="How far it is; more stages may be added.")
    refused: int = Field(default=0, description="Lines that were wrong or cannot be in a batch.")
    parts: tuple[PartProgress, ...] = Field(
        default=(), description="The provider's batches that it is split into."
    )
    looks: int = Field(default=0, description="How often the provider was asked.")
    cancelled: bool = Field(default=False, description="Whether somebody has cancelled it.")


class EconomyOrder(SparseContract):
    """One batch, whose lines lie in the image store as pages (`gpt_image_runs.contracts.batches`).

    With `template_batch_id` they lie there under that id, and are copied with request ids of this batch's own.
    Started again after its end, it begins a new round with the lines that are not paid, or only with those that `retry` names. `max_cost_usd`
    is the most that charges and worst cases may come to; None is what it was before, or no limit. `progress` is what a run of the
    workflow hands to the next, and nobody else's to write.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    batch_id: Annotated[str, StringConstraints(pattern=BATCH_ID_PATTERN)] = Field(
        description="1 to 64 characters of A-Z, a-z, 0-9, dot, hyphen and underscore, the first a letter or digit"
    )
    digest: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] = Field(
        description="the SHA-256 of the batch's lines, 64 characters of 0-9 and a-f"
    )
    lines: Annotated[int, Field(ge=1, le=MAX_LINES)] = Field(
        description=f"how many lines the batch has, 1 to {MAX_LINES:,}"
    )
    pages: Annotated[int, Field(ge=1, le=MAX_LINES)] = Field(
        description="how many pages these lines are kept in, 1 or more"
    )
    template_batch_id: Annotated[str, StringConstraints(pattern=BATCH_ID_PATTERN)] | None = Field(
        default=None,
        description="the id of the batch whose pages are taken over, with what batch_id has beyond it appended to each request id",
    )
    max_cost_usd: Usd | None = Field(
        default=None, description="an amount in USD with 6 places, such as 25.000000"
    )
    retry: EconomyRetry | None = Field(default=None, description="waiting, unpaid or unknown")
    progress: Annotated[EconomyProgress, Field(strict=False)] | None = Field(
        default=None, description="nothing of yours: what one run of the workflow hands to the next"
    )

    @property
    def workflow_id(self) -> str:
        """The id of its workflow."""
        return names.economy_workflow_id(self.batch_id)


class EconomySummary(SparseContract):
    """What came of a round. The counts of lines add up to `lines`.

    `without_picture` of the `done` lines have no picture; None in a summary of an older version.
    `passed` lines were paid before, are under way elsewhere, are beyond a budget, or were cancelled before they were claimed. `done` are billed; `rejected` were refused by the provider,
    `not_sent` expired, were cancelled, or their batch failed: neither was charged. `unknown` may have been.
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


def describe_economy_opening(order: EconomyOrder) -> str:
    """Describe a batch before its first step, in one line."""
    limit = f", at most {order.max_cost_usd} USD" if order.max_cost_usd else ""
    return f"{order.lines:,} lines in the provider's own batches{limit}"


class EconomyBatchRef(Contract):
    """Which batch, and which round of it. Its parts are named in the ledger by `mark` and their number."""

    batch_id: str
    digest: str
    round: int

    @property
    def mark(self) -> str:
        """The prefix of the marks of this round's parts."""
        return f"{self.batch_id}/{self.digest[:12]}/{self.round}/"

    def part_mark(self, number: int) -> str:
        """Return the mark by which attempts name their part."""
        return f"{self.mark}{number}"


class EconomyPlan(Contract):
    """A round: its parts, and how many lines are refused."""

    round: int
    parts: tuple[PlannedPart, ...]
    refused: int


class PartOrder(SparseContract):
    """A part of a round to claim, to send or to close; how it ended is there for the last alone.

    `untouched`: the provider ended it without having begun with any of its lines.
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
    """How many lines of a part are to be sent, and how many were passed over: paid before, under way, or doubtful."""

    claimed: int
    passed: int


class SentPart(SparseContract):
    """The provider's batch of a part, None where there was nothing to send, or the provider refused it with `reason`.

    `gone`: it was sent before, and the provider does not know it any more.
    """

    provider_batch_id: str | None = None
    reason: str | None = None
    gone: bool = False


class LookOrder(Contract):
    """Batches of the provider to poll, or to cancel."""

    provider_batch_ids: tuple[str, ...]


class SeenBatch(SparseContract):
    """A batch of the provider as it stands; `gone` is a status of ours: the provider does not know it any more.

    `untouched`: it has not begun with any of its lines.
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
    """Batches of the provider, in the order in which they were asked for."""

    batches: tuple[SeenBatch, ...]


class SettleOrder(Contract):
    """A stretch of a result file to settle, from the byte `offset` on."""

    batch: EconomyBatchRef
    part: PlannedPart
    file_id: str
    offset: int = 0


class SettledLines(SparseContract):
    """What was settled, and the offset to go on at; None where the file is done. `unread` lines could not be parsed."""

    next_offset: int | None = None
    lines: int = 0
    unread: int = 0
    reason: str | None = None
