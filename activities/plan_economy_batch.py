"""`plan_economy_batch`: every line of a batch checked as a run of its own would be, and divided into the provider's files.

The batch and its lines are registered. Nothing is written into the ledger, and nothing sent: a plan that is made again from the same pages is the same.
"""

import asyncio

import structlog
from temporalio import activity

from activities.batch_pages import BatchPages
from activities.check_request import RequestChecker
from activities.economy_documents import EconomyDocuments, PassedLine, PlannedLine
from activities.economy_splitting import PartSplitter
from activities.failures import known_failures
from activities.heartbeat import heartbeats
from activities.open_batch import describe_line
from billing.batch_records import UnbilledEnd
from billing.batches import Batches
from billing.database import Database
from billing.economy_lines import EconomyLines
from billing.economy_openings import open_economy_batch
from contracts import names
from contracts.batch_pages import BatchLine
from contracts.calls import Admission
from contracts.economy import EconomyOrder
from contracts.economy_steps import EconomyBatchRef, EconomyPlan
from contracts.problems import Problem, describe_problems
from contracts.request import ImageRequest
from imaging.batch_lines import check_fit, endpoint_of, write_request_line
from imaging.calls import request_options
from imaging.inputs import Inputs, InputsRefused, load_inputs
from imaging.ownership import PictureOwners
from imaging.store import ImageStore

log = structlog.get_logger("plan_economy_batch")


class EconomyPlanner:
    """Plans rounds of economy batches whose pages lie in one store, and registers them in one database."""

    def __init__(
        self, checker: RequestChecker, store: ImageStore, database: Database, owners: PictureOwners
    ) -> None:
        self._owners = owners
        self._database = database
        self._checker = checker
        self._store = store

    @activity.defn(name=names.PLAN_ECONOMY_BATCH)
    async def plan_economy_batch(self, order: EconomyOrder) -> EconomyPlan:
        """The plan of the round that goes on, or of a new one where the last has ended.

        Raises:
            BatchConflict: the id stands for other lines, or for a batch at the standard price; not tried again.
            LedgerUnavailable, StoreUnavailable: tried again until it is through.
        """
        with known_failures():
            async with heartbeats():
                batch = await self._find_round(order)
                await self._register(order, batch)
                documents = EconomyDocuments(self._store, batch)
                plan = await documents.read_plan() or await self._plan(order, batch, documents)
                await self._tell_refused(order, await documents.read_refused())
        log.info("The batch is planned.", batch=order.batch_id, round=plan.round, parts=len(plan.parts))
        return plan

    async def _find_round(self, order: EconomyOrder) -> EconomyBatchRef:
        batch = EconomyBatchRef(batch_id=order.batch_id, digest=order.digest, round=1)
        while await EconomyDocuments(self._store, batch).read_end():
            batch = batch.model_copy(update={"round": batch.round + 1})
        return batch

    async def _register(self, order: EconomyOrder, batch: EconomyBatchRef) -> None:
        first = await asyncio.to_thread(open_economy_batch, self._database, order, batch.round)
        pages, batches = BatchPages(self._store, order.batch_id, order.digest), Batches(self._database)
        for page in range(first, order.pages):
            if order.template_batch_id:
                await pages.copy_from(order.template_batch_id, page)
            lines = [describe_line(line) for line in await pages.read(page)]
            await asyncio.to_thread(batches.register, order.batch_id, page, lines)

    async def _tell_refused(self, order: EconomyOrder, refused: list[PassedLine]) -> None:
        ends = [
            UnbilledEnd(
                line=line.line, state="failed", error_type=names.REQUEST_REFUSED, error_message=line.reason
            )
            for line in refused
        ]
        await asyncio.to_thread(EconomyLines(self._database, order.batch_id).refuse, ends)

    async def _plan(
        self, order: EconomyOrder, batch: EconomyBatchRef, documents: EconomyDocuments
    ) -> EconomyPlan:
        splitter, refused, seen = PartSplitter(), list[PassedLine](), dict[str, int]()
        pages = BatchPages(self._store, order.batch_id, order.digest)
        for page in range(order.pages):
            for line in await pages.read(page):
                problem = await self._take(line, page, splitter, seen)
                if problem:
                    refused.append(PassedLine(line=line.line, state="refused", reason=problem))
        parts = splitter.list_parts()
        for part, lines in parts:
            await documents.write_part(part.number, lines)
        await documents.write_refused(refused)
        plan = EconomyPlan(round=batch.round, parts=tuple(part for part, _ in parts), refused=len(refused))
        await documents.write_plan(plan)
        return plan

    async def _take(
        self, line: BatchLine, page: int, splitter: PartSplitter, seen: dict[str, int]
    ) -> str | None:
        """Puts a line into a part, or says why not."""
        if line.request is None:
            return line.problem or "The line holds no request."
        admission = self._checker.check(line.request, "", "batch")
        if admission.problems:
            return describe_problems(admission.problems)
        request = ImageRequest.model_validate(line.request)
        first = seen.setdefault(admission.run_id, line.line)
        if first != line.line:
            return (
                f"The request_id {admission.request_id} stands on line {first} too: each line needs its own."
            )
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
