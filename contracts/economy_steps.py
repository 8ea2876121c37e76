"""What the workflow `EconomyBatch` and its activities hand to each other, step by step."""

from contracts.base import Contract, SparseContract
from contracts.economy import PlannedPart


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
