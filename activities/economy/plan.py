"""`plan_economy_batch`: check every line of a batch as for a run of its own, and split the lines into the provider's files.

The batch and its lines are registered in the database; no attempt is recorded and nothing is sent. The same pages give the
same plan.
"""

import asyncio
from dataclasses import dataclass, field

import structlog
from temporalio import activity

from activities.batches.pages import BatchPages, register_batch
from activities.check_request import RequestChecker
from activities.economy.documents import EconomyDocuments, PassedLine, PlannedLine
from activities.errors import translate_errors
from activities.heartbeats import heartbeats
from gpt_image_runs.batches.batches import Batches
from gpt_image_runs.batches.lines import BatchLines
from gpt_image_runs.batches.models import UnbilledEnd
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.batches import BatchLine
from gpt_image_runs.contracts.calls import Admission
from gpt_image_runs.contracts.economy import EconomyBatchRef, EconomyOrder, EconomyPlan, Endpoint, PlannedPart
from gpt_image_runs.contracts.problems import Problem, describe_problems
from gpt_image_runs.contracts.request import ImageRequest
from gpt_image_runs.database.engine import Database
from gpt_image_runs.images.inputs import Inputs, InputsRefused, load_inputs
from gpt_image_runs.images.ownership import PictureOwners
from gpt_image_runs.images.store import ImageStore
from gpt_image_runs.provider.batch_api import MAX_FILE, MAX_LINES
from gpt_image_runs.provider.batch_files import check_fit, endpoint_of, write_request_line
from gpt_image_runs.provider.calls import request_options

log = structlog.get_logger("plan_economy_batch")


@dataclass
class _Part:
    number: int
    endpoint: Endpoint
    model: str
    lines: list[PlannedLine] = field(default_factory=list)
    size: int = 0


class PartSplitter:
    """Assigns lines one by one to the open part of their endpoint and model, or to a new one. `most_bytes` limits a file."""

    def __init__(self, most_lines: int = MAX_LINES, most_bytes: int = MAX_FILE) -> None:
        self._most_lines = most_lines
        self._most_bytes = most_bytes
        self._open: dict[tuple[Endpoint, str], _Part] = {}
        self._parts: list[_Part] = []

    def add(self, endpoint: Endpoint, model: str, line: PlannedLine, size: int) -> None:
        """Add a line of `size` bytes to a part."""
        part = self._open.get((endpoint, model))
        if part is None or len(part.lines) >= self._most_lines or part.size + size > self._most_bytes:
            part = _Part(len(self._parts), endpoint, model)
            self._parts.append(part)
            self._open[endpoint, model] = part
        part.lines.append(line)
        part.size += size

    def list_parts(self) -> list[tuple[PlannedPart, list[PlannedLine]]]:
        """List every part with its lines, in the order of their numbers."""
        return [
            (
                PlannedPart(
                    number=part.number, endpoint=part.endpoint, model=part.model, lines=len(part.lines)
                ),
                part.lines,
            )
            for part in self._parts
        ]


class EconomyPlanner:
    """Plans rounds of economy batches whose pages are in one store, and registers them in one database."""

    def __init__(
        self, checker: RequestChecker, store: ImageStore, database: Database, owners: PictureOwners
    ) -> None:
        self._owners = owners
        self._database = database
        self._checker = checker
        self._store = store

    @activity.defn(name=names.PLAN_ECONOMY_BATCH)
    async def plan_economy_batch(self, order: EconomyOrder) -> EconomyPlan:
        """Plan the current round of a batch, or a new one where the last has ended.

        Idempotent until the round ends.

        Raises:
            BatchConflict: the id stands for other lines, or for a batch at the standard price; not retried.
            LedgerUnavailable, StoreUnavailable: retried until it succeeds.
        """
        with translate_errors():
            async with heartbeats():
                batch = await self._find_round(order)
                await register_batch(Batches(self._database), self._store, order, batch.round)
                documents = EconomyDocuments(self._store, batch)
                plan = await documents.read_plan() or await self._plan(order, batch, documents)
                await self._end_refused(order, await documents.read_refused())
        log.info("economy_batch_planned", batch=order.batch_id, round=plan.round, parts=len(plan.parts))
        return plan

    async def _find_round(self, order: EconomyOrder) -> EconomyBatchRef:
        batch = EconomyBatchRef(batch_id=order.batch_id, digest=order.digest, round=1)
        while await EconomyDocuments(self._store, batch).read_end():
            batch = batch.model_copy(update={"round": batch.round + 1})
        return batch

    async def _end_refused(self, order: EconomyOrder, refused: list[PassedLine]) -> None:
        ends = [
            UnbilledEnd(
                line=line.line, state="failed", error_type=names.REQUEST_REFUSED, error_message=line.reason
            )
            for line in refused
        ]
        lines = BatchLines(self._database, order.batch_id, economy=True)
        await asyncio.to_thread(lines.refuse, ends)

    async def _plan(
        self, order: EconomyOrder, batch: EconomyBatchRef, documents: EconomyDocuments
    ) -> EconomyPlan:
        splitter, refused, seen = PartSplitter(), list[PassedLine](), dict[str, int]()
        pages = BatchPages(self._store, order.batch_id, order.digest)
        for page in range(order.pages):
            for line in await pages.read(page):
                problem = await self._add_line(line, page, splitter, seen)
                if problem:
                    refused.append(PassedLine(line=line.line, state="refused", reason=problem))
        parts = splitter.list_parts()
        for part, lines in parts:
            await documents.write_part(part.number, lines)
        await documents.write_refused(refused)
        plan = EconomyPlan(round=batch.round, parts=tuple(part for part, _ in parts), refused=len(refused))
        await documents.write_plan(plan)
        return plan

    async def _add_line(
        self, line: BatchLine, page: int, splitter: PartSplitter, seen: dict[str, int]
    ) -> str | None:
        """Add a line to a part, or return why it cannot be in a batch."""
        if line.request is None:
            return line.problem or "The line holds no request."
        admission = self._checker.check(line.request, "", "batch")
        if admission.problems:
            return describe_problems(admission.problems)
        request = ImageRequest.model_validate(line.request)
        first = seen.setdefault(admission.run_id, line.line)
        if first != line.line:
            return f"The request_id {admission.request_id} is on line {first} too. Give each line its own."
        try:
            inputs = await load_inputs(request, self._owners.store_of(request.tenant))
        except InputsRefused as error:
            return str(error)
        size, problems = await asyncio.to_thread(_measure, admission, request, inputs)
        if problems:
            return describe_problems(problems)
        splitter.add(endpoint_of(request), admission.model, _plan_line(line, page, request, admission), size)
        return None


def _measure(admission: Admission, request: ImageRequest, inputs: Inputs) -> tuple[int, tuple[Problem, ...]]:
    problems = check_fit(inputs)
    if problems:
        return 0, problems
    return len(write_request_line(admission.run_id, request, admission.model, inputs)), ()


def _plan_line(line: BatchLine, page: int, request: ImageRequest, admission: Admission) -> PlannedLine:
    return PlannedLine(
        line=line.line,
        page=page,
        run_id=admission.run_id,
        tenant=admission.tenant,
        request_id=admission.request_id,
        fingerprint=admission.fingerprint,
        operation=request.operation,
        requested_model=request.model,
        missing_usage=admission.missing_usage,
        price_ceiling_usd=admission.price_ceiling_usd,
        metadata=request.metadata,
        options=request_options(request),
    )
