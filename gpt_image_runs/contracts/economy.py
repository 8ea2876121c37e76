"""What goes into the workflow `EconomyBatch`, and what it answers. Amounts are decimal strings in USD.

A batch is carried out in rounds, each of which splits the lines that are not paid yet into parts: one file and one batch of
the provider each. The lines themselves lie in the image store, never in Temporal.
"""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StringConstraints, ValidationError

from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.base import Contract, SparseContract
from gpt_image_runs.contracts.money import Usd
from gpt_image_runs.contracts.problems import describe_value

Endpoint = Literal["/v1/images/generations", "/v1/images/edits"]
EconomyRetry = Literal["waiting", "unpaid", "unknown"]
"""Which lines another round starts: those that wait alone, also those that were never paid, or those of unknown outcome too."""
EconomyStage = Literal["planning", "sending", "waiting", "settling", "closing", "done", "cancelled"]

BATCH_ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
MAX_LINES = 100_000
BATCH_CANCELLED = "BatchCancelled"
"""The type of error of a line that the provider did not carry out, as its batch was cancelled before."""
ALLOWED = {
    "batch_id": "1 to 64 characters of A-Z, a-z, 0-9, dot, hyphen and underscore, the first a letter or digit",
    "digest": "the SHA-256 of the batch's lines, 64 characters of 0-9 and a-f",
    "lines": f"how many lines the batch has, 1 to {MAX_LINES:,}",
    "pages": "how many pages these lines are kept in, 1 or more",
    "template_batch_id": "the id of the batch whose pages are taken over, with what batch_id has beyond it appended to each request id",
    "max_cost_usd": "an amount in USD with 6 places, such as 25.000000",
    "retry": "waiting, unpaid or unknown",
    "progress": "nothing of yours: what one run of the workflow hands to the next",
}


class PlannedPart(Contract):
    """A file that is to be sent: lines of one endpoint and one model."""

    number: int
    endpoint: Endpoint
    model: str
    lines: int


class PartProgress(SparseContract):
    """How far a part is. `provider_batch_id` is None where all of its lines were passed over, so that nothing was sent.

    `closed` once every line of it has an outcome.
    """

    part: PlannedPart
    provider_batch_id: str | None = None
    status: str = "unsent"
    completed: int = 0
    failed: int = 0
    closed: bool = False


class EconomyProgress(SparseContract):
    """Where an economy batch stands: the answer to the query `economy`, and what one run of the workflow hands to the next.

    `refused` lines were wrong or cannot be in a batch.
    """

    round: int = 0
    stage: EconomyStage = "planning"
    refused: int = 0
    parts: tuple[PartProgress, ...] = ()
    looks: int = 0
    cancelled: bool = False


class EconomyOrder(SparseContract):
    """One batch, whose lines lie in the image store as pages (`gpt_image_runs.contracts.batches`).

    With `template_batch_id` they lie there under that id, and are copied with request ids of this batch's own.
    Started again after its end, it begins a new round with the lines that are not paid, or only with those that `retry` names. `max_cost_usd`
    is the most that charges and worst cases may come to; None is what it was before, or no limit. `progress` is what a run of the
    workflow hands to the next, and nobody else's to write.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    batch_id: Annotated[str, StringConstraints(pattern=BATCH_ID_PATTERN)]
    digest: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    lines: Annotated[int, Field(ge=1, le=MAX_LINES)]
    pages: Annotated[int, Field(ge=1, le=MAX_LINES)]
    template_batch_id: Annotated[str, StringConstraints(pattern=BATCH_ID_PATTERN)] | None = None
    max_cost_usd: Usd | None = None
    retry: EconomyRetry | None = None
    progress: Annotated[EconomyProgress, Field(strict=False)] | None = None

    @property
    def workflow_id(self) -> str:
        """The id of the workflow that carries it out."""
        return names.economy_workflow_id(self.batch_id)


class EconomySummary(SparseContract):
    """What came of a round. The counts of lines add up to `lines`.

    `without_picture` of the `done` lines have no picture; None in a summary of an older version.
    `passed` lines were paid before, are under way elsewhere, are beyond a budget, or were cancelled before they were claimed. `done` are billed; `rejected` were refused by the provider,
    `not_sent` expired, were cancelled, or their batch failed: neither was charged. `unknown` may have been.
    """

    batch_id: str
    round: int
    status: Literal["completed", "cancelled"]
    lines: int
    done: int
    passed: int
    refused: int
    rejected: int
    not_sent: int
    unknown: int
    images: int
    without_picture: int | None = None
    charged_usd: Usd
    pending: int
    provider_batch_ids: tuple[str, ...] = ()


def describe_economy_opening(order: EconomyOrder) -> str:
    """The batch before its first step, in one line."""
    limit = f", at most {order.max_cost_usd} USD" if order.max_cost_usd else ""
    return f"{order.lines:,} lines in the provider's own batches{limit}"


class MalformedEconomyOrder(ValueError):
    """An order that cannot be read; the message lists every problem."""


def read_economy_order(payload: Any) -> EconomyOrder:
    """Reads an order from parsed JSON that anybody may have sent.

    Raises:
        MalformedEconomyOrder: with all that is wrong.
    """
    if not isinstance(payload, dict):
        raise MalformedEconomyOrder(
            f"This is no economy batch: it is {describe_value('order', payload)}, not one JSON object."
        )
    try:
        return EconomyOrder.model_validate(payload)
    except ValidationError as error:
        problems = dict.fromkeys(_describe(detail["loc"], detail["input"]) for detail in error.errors())
    raise MalformedEconomyOrder(f"This is no economy batch: {'; '.join(problems)}.")


def _describe(location: tuple[int | str, ...], value: Any) -> str:
    field = str(location[0]) if location else "order"
    shown = field if field in ALLOWED else ascii(field)
    given = "absent" if isinstance(value, dict) else describe_value(field, value)
    return f"{shown} is {given}; allowed: {ALLOWED.get(field, 'nothing: there is no such field')}"


class EconomyBatchRef(Contract):
    """Which batch, and which round of it. Its parts are named in the ledger by `mark` and their number."""

    batch_id: str
    digest: str
    round: int

    @property
    def mark(self) -> str:
        """How the attempts of this round begin to name their part."""
        return f"{self.batch_id}/{self.digest[:12]}/{self.round}/"

    def part_mark(self, number: int) -> str:
        """How the attempts of one part name it."""
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
    """Batches of the provider to look at, or to cancel."""

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
    """What was settled, and the offset to go on at; None where the file is done. `unread` lines make no sense to us."""

    next_offset: int | None = None
    lines: int = 0
    unread: int = 0
    reason: str | None = None
