"""The documents of an economy batch in the image store beside its pages: its plan, its claims, and how its parts ended.

A round's documents are written in this order, each when it is complete: the parts, the plan, the claims of each part, the
end. A decision that is stored is never made again: another worker, or a restarted workflow, continues from it.
"""

from typing import Any, Literal, TypeVar

from pydantic import BaseModel

from gpt_image_runs.billing.attempts.runs import RunIdentity
from gpt_image_runs.contracts.base import SparseContract
from gpt_image_runs.contracts.economy import (
    EconomyBatchRef,
    EconomyPlan,
    EconomySummary,
    PlannedPart,
    SeenBatch,
    SentPart,
)
from gpt_image_runs.contracts.money import Usd
from gpt_image_runs.contracts.request import ImageRequest, MissingUsage, Operation
from gpt_image_runs.database.errors import BatchConflict
from gpt_image_runs.images.store import ImageStore

M = TypeVar("M", bound=BaseModel)

REFUSED = "refused.jsonl"
_PLAN = "plan.json"
_END = "end.json"


class PlannedLine(SparseContract):
    """A line that may be sent. `line` is its number in the file, `page` holds its request.

    `options` are the fields of the request that reading its response needs, without prompt and images. `attempt_id` is set
    once the line is claimed.
    """

    line: int
    page: int
    run_id: str
    tenant: str
    request_id: str
    fingerprint: str
    operation: Operation
    requested_model: str
    missing_usage: MissingUsage
    price_ceiling_usd: Usd | None = None
    metadata: dict[str, str] | None = None
    options: dict[str, Any]
    attempt_id: str | None = None

    def read_request(self, model: str) -> ImageRequest:
        """Build the request from what is stored here, with a placeholder for its prompt."""
        return ImageRequest.model_validate({"model": model, "prompt": "-", **self.options})


class PassedLine(SparseContract):
    """A line that is not sent, and why. `state` "paid": it has its bill already; "kept_back": it is not for this round."""

    line: int
    run_id: str | None = None
    state: Literal[
        "refused", "paid", "under_way", "doubtful", "conflict", "over_budget", "left_out", "kept_back"
    ]
    reason: str


class NewestBefore(SparseContract):
    """When the provider's newest batch before a part was created, by the provider's clock in Unix seconds; 0 without one."""

    created_at: int


def identify_line(line: PlannedLine, workflow_id: str) -> RunIdentity:
    """Return the identity of a line's run in the workflow of an economy batch."""
    return RunIdentity(
        run_id=line.run_id,
        tenant=line.tenant,
        request_id=line.request_id,
        workflow_id=workflow_id,
        fingerprint=line.fingerprint,
        operation=line.operation,
        requested_model=line.requested_model,
    )


class EconomyDocuments:
    """The documents of one round."""

    def __init__(self, store: ImageStore, batch: EconomyBatchRef) -> None:
        self._store = store
        self._batch = batch
        self._root = f"batches/{batch.batch_id}/{batch.digest}/economy/round-{batch.round:05d}"

    async def read_plan(self) -> EconomyPlan | None:
        """Read the round's plan, None before it is made."""
        return await self._read(_PLAN, EconomyPlan)

    async def write_plan(self, plan: EconomyPlan) -> None:
        """Write the plan, after all of its parts."""
        await self._write(_PLAN, (plan,))

    async def read_end(self) -> EconomySummary | None:
        """Read the round's result, None before it ends."""
        return await self._read(_END, EconomySummary)

    async def write_end(self, summary: EconomySummary) -> None:
        """Write the round's result; the next round may begin."""
        await self._write(_END, (summary,))

    async def check_part(self, part: PlannedPart) -> None:
        """Check a part that a workflow passes against the plan.

        Its model and endpoint decide what is paid and billed.

        Raises:
            BatchConflict: it is not a part of this round's plan.
        """
        plan = await self.read_plan()
        if plan is None or part not in plan.parts:
            raise BatchConflict(
                f"Part {part.number} of the economy batch {self._batch.batch_id} is handed over with {part.lines} lines"
                f" for {part.model} at {part.endpoint}, and round {self._batch.round} was not planned so. Nothing was"
                " sent. Start the batch again: it goes on with its plan."
            )

    async def write_part(self, number: int, lines: list[PlannedLine]) -> None:
        """Write the planned lines of a part."""
        await self._write(f"part-{number:05d}.jsonl", lines)

    async def read_part(self, number: int) -> list[PlannedLine]:
        """Read the planned lines of a part."""
        return await self._read_all(f"part-{number:05d}.jsonl", PlannedLine) or []

    async def write_claims(self, number: int, claimed: list[PlannedLine], passed: list[PassedLine]) -> None:
        """Write which lines of a part are sent, and which are passed over."""
        await self._write(f"part-{number:05d}-passed.jsonl", passed)
        await self._write(f"part-{number:05d}-claimed.jsonl", claimed)

    async def read_claimed(self, number: int) -> list[PlannedLine] | None:
        """Read the lines of a part that are sent, None before they are claimed."""
        return await self._read_all(f"part-{number:05d}-claimed.jsonl", PlannedLine)

    async def read_passed(self, number: int) -> list[PassedLine]:
        """Read the lines of a part that were passed over."""
        return await self._read_all(f"part-{number:05d}-passed.jsonl", PassedLine) or []

    async def write_newest_before(self, number: int, created_at: int) -> None:
        """Note when the provider's newest batch was created, before the part is sent."""
        await self._write(f"part-{number:05d}-newest-before.json", (NewestBefore(created_at=created_at),))

    async def read_newest_before(self, number: int) -> int | None:
        """Read the note of `write_newest_before`, None before it is written."""
        found = await self._read(f"part-{number:05d}-newest-before.json", NewestBefore)
        return found.created_at if found else None

    async def write_sent(self, number: int, sent: SentPart) -> None:
        """Note whether the provider has refused a part, in place of what was noted before."""
        await self._write(f"part-{number:05d}-sent.json", (sent,))

    async def find_refusal(self, number: int) -> str | None:
        """Find why the provider refused a part, None where it has not, as far as it was noted."""
        found = await self._read(f"part-{number:05d}-sent.json", SentPart)
        return found.reason if found else None

    async def write_ended(self, number: int, ended: SeenBatch) -> None:
        """Note how the provider's batch of a part has ended, as the provider said itself."""
        await self._write(f"part-{number:05d}-ended.json", (ended,))

    async def read_ended(self, number: int) -> SeenBatch | None:
        """Read how the provider's batch of a part has ended, None while that was not seen."""
        return await self._read(f"part-{number:05d}-ended.json", SeenBatch)

    async def write_left_out(self, number: int, lines: list[PassedLine]) -> None:
        """Write the lines of a part that could not be written into its file."""
        await self._write(f"part-{number:05d}-left-out.jsonl", lines)

    async def read_left_out(self, number: int) -> list[PassedLine]:
        """Read the lines of a part that could not be written into its file."""
        return await self._read_all(f"part-{number:05d}-left-out.jsonl", PassedLine) or []

    async def read_refused(self) -> list[PassedLine]:
        """Read the lines that were refused."""
        return await self._read_all(REFUSED, PassedLine) or []

    async def write_refused(self, lines: list[PassedLine]) -> None:
        """Write the lines that were refused."""
        await self._write(REFUSED, lines)

    async def _write(self, name: str, values: Any) -> None:
        data = b"".join(value.model_dump_json().encode() + b"\n" for value in values)
        await self._store.put_document(f"{self._root}/{name}", data)

    async def _read(self, name: str, kind: type[M]) -> M | None:
        found = await self._read_all(name, kind)
        return found[0] if found else None

    async def _read_all(self, name: str, kind: type[M]) -> list[M] | None:
        data = await self._store.read_document(f"{self._root}/{name}")
        if data is None:
            return None
        return [kind.model_validate_json(line) for line in data.splitlines()]
