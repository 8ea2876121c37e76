"""Starts the runs of a batch: each is reserved, started and confirmed, so that a crash in between changes nothing.

The ids of runs follow from the lines, and starting is idempotent: a run that exists is attached to.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from activities.batches.pages import BatchPages
from activities.check_request import RequestChecker
from gpt_image_runs.batches.lines import BatchLines, Claim
from gpt_image_runs.batches.models import PricedLine, StartedLine, UnbilledEnd, WaitingLine
from gpt_image_runs.billing.attempts.runs import RunIdentity, find_earlier_run
from gpt_image_runs.client.runs import compare_content
from gpt_image_runs.client.start_options import describe_start
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.batches import BatchProgress
from gpt_image_runs.contracts.calls import Admission, CheckInput
from gpt_image_runs.contracts.problems import describe_problems
from gpt_image_runs.contracts.request import ImageRequest
from gpt_image_runs.contracts.request_parsing import read_request
from gpt_image_runs.database.engine import Database

# Lines that are reserved together: a second's work, so that a pause or a cancellation takes effect soon.
MAX_CHUNK = 50
_AT_ONCE = 20


class Started(NamedTuple):
    """The number of lines that were started and refused. `capped`: nothing runs, and the batch's limit keeps back the next line.

    While something runs, its end may free a reservation.
    """

    lines: int
    capped: bool


@dataclass(frozen=True, slots=True)
class PreparedLine:
    """A line whose run may be started."""

    line: int
    run_id: str
    request: ImageRequest
    admission: Admission


class BatchStarter:
    """Starts the runs of one batch in one round."""

    def __init__(
        self,
        client: Client,
        database: Database,
        *,
        checker: RequestChecker,
        pages: BatchPages,
        lines: BatchLines,
        batch: BatchProgress,
    ) -> None:
        self._client = client
        self._database = database
        self._checker = checker
        self._pages = pages
        self._lines = lines
        self._batch = batch
        self._submission = f"{names.batch_workflow_id(batch.batch_id)}:{batch.round}"
        self._places = asyncio.Semaphore(_AT_ONCE)
        # Claimed lines that wait for the end of an execution of other content. `settle_claims` of the next step releases them.
        self._undecided: list[PreparedLine] = []

    async def settle_claims(self) -> None:
        """Confirm or release the lines that a worker had reserved when it died."""
        claimed = await asyncio.to_thread(self._lines.list_starting)
        ours = await asyncio.gather(*(self._find_ours(line.run_id) for line in claimed))
        found = zip(claimed, ours, strict=True)
        started = [StartedLine(line=line.line, workflow_run_id=run) for line, run in found if run]
        await asyncio.to_thread(self._lines.confirm, started)
        known = {line.line for line in started}
        await asyncio.to_thread(
            self._lines.release, [line.line for line in claimed if line.line not in known]
        )

    async def start_some(self, progress: BatchProgress) -> Started:
        """Start the next lines, as many as the window and the limit allow, at most `MAX_CHUNK`.

        Raises:
            RPCError: Temporal does not take them. Started runs are confirmed, the next attempt settles the rest.
        """
        decided = await self._start_undecided()
        free = min(progress.window - progress.running, MAX_CHUNK)
        if free <= 0 or not progress.waiting:
            return Started(decided, capped=False)
        waiting = await asyncio.to_thread(self._lines.list_waiting, free)
        checked = [await self._prepare(line) for line in waiting]
        refused = [line for line in checked if isinstance(line, UnbilledEnd)]
        prepared = [line for line in checked if isinstance(line, PreparedLine)]
        await asyncio.to_thread(self._lines.refuse, refused)
        claim = await self._claim_and_start(prepared)
        moved = decided + len(refused) + len(claim.lines)
        return Started(moved, capped=claim.capped and not moved and not progress.running)

    async def _start_undecided(self) -> int:
        """Retry the lines that waited for other executions, and return how many were decided."""
        if not self._undecided:
            return 0
        # A bill for a line's own content has ended it. The others are claimed anew, as the batch may have to stop.
        claimed = {line.line for line in await asyncio.to_thread(self._lines.list_starting)}
        waiting = [line for line in self._undecided if line.line in claimed]
        self._undecided = []
        await asyncio.to_thread(self._lines.release, [line.line for line in waiting])
        await self._claim_and_start(waiting)
        return len(waiting) - len(self._undecided)

    async def _claim_and_start(self, lines: Sequence[PreparedLine]) -> Claim:
        claim = await asyncio.to_thread(self._lines.claim, [_price(line) for line in lines])
        await self._start_all([line for line in lines if line.line in claim.lines])
        return claim

    async def _prepare(self, line: WaitingLine) -> PreparedLine | UnbilledEnd:
        """Check a line by the current rules and prices."""
        found = await self._pages.find(line.page, line.line)
        payload = {**(found.request or {}), "request_id": line.run_id.split(":", 2)[2]}
        admission = await self._checker.check_request(CheckInput(payload=payload, workflow_id=line.run_id))
        request = read_request(payload).request
        if request is None or admission.problems:
            return _refuse(line.line, names.REQUEST_REFUSED, describe_problems(admission.problems))
        if self._batch.max_cost_usd is not None and admission.price_ceiling_usd is None:
            return _refuse(
                line.line,
                "PriceNotKnown",
                f"No price is known for {admission.model}, so the limit of cost cannot be kept. Nothing was sent.",
            )
        return PreparedLine(line.line, line.run_id, request, admission)

    async def _start_all(self, lines: Sequence[PreparedLine]) -> None:
        results = await asyncio.gather(*map(self._start, lines), return_exceptions=True)
        started = [result for result in results if isinstance(result, StartedLine)]
        await asyncio.to_thread(self._lines.confirm, started)
        unbilled = [result for result in results if isinstance(result, UnbilledEnd)]
        await asyncio.to_thread(self._lines.end_unbilled, unbilled)
        self._undecided += [line for line, result in zip(lines, results, strict=True) if result is None]
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _start(self, line: PreparedLine) -> StartedLine | UnbilledEnd | None:
        start = describe_start(
            line.request,
            model=line.admission.model,
            submission=self._submission,
            batch_id=self._batch.batch_id,
            priority_key=names.PRIORITY_BATCH,
        )
        async with self._places:
            try:
                handle = await self._client.start_workflow(
                    names.WORKFLOW,
                    line.request,
                    id=line.run_id,
                    task_queue=names.RUNS_QUEUE,
                    id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
                    # A run that failed before starts again, and uses what it may have paid for.
                    id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY,
                    memo=start.memo,
                    search_attributes=start.search_attributes,
                    static_summary=start.static_summary,
                    priority=start.priority,
                )
            except WorkflowAlreadyStartedError:
                return await self._attach(line)
            except RPCError as error:
                if error.status is not RPCStatusCode.INVALID_ARGUMENT:
                    raise
                return _refuse(line.line, "RefusedByTemporal", error.message)
        return StartedLine(line=line.line, workflow_run_id=handle.first_execution_run_id or "")

    async def _attach(self, line: PreparedLine) -> StartedLine | UnbilledEnd | None:
        """Attach to the existing execution if the request id is the line's by the ledger.

        Returns None while an execution of other content is under way that does not own the request id in the ledger.
        """
        latest = await self._client.get_workflow_handle(line.run_id).describe()
        # Looked up after the execution: a completed one is in the ledger.
        earlier = await asyncio.to_thread(find_earlier_run, self._database, _identify(line))
        is_same = (
            earlier.conflict is None
            and (await compare_content(self._client, latest, line.request, line.run_id)).is_same
        )
        is_done = latest.status is WorkflowExecutionStatus.COMPLETED
        if is_same or (is_done and earlier.is_owner):
            others = latest.typed_search_attributes.get(names.BATCH_ID) != self._batch.batch_id
            return StartedLine(line=line.line, workflow_run_id=latest.run_id, attached=others)
        if earlier.conflict is None and not is_done:
            return None
        return _refuse(
            line.line,
            names.RUN_CONFLICT,
            f"The request id {line.admission.request_id} of tenant {line.admission.tenant} stands for other content"
            " already, and nothing was started. Give the line a new request id.",
        )

    async def _find_ours(self, run_id: str) -> str | None:
        """Find Temporal's run id if this round of the batch has started the run, else None."""
        async with self._places:
            try:
                described = await self._client.get_workflow_handle(run_id).describe()
            except RPCError as error:
                if error.status is RPCStatusCode.NOT_FOUND:
                    return None
                raise
            return (
                described.run_id
                if (await described.memo()).get(names.SUBMISSION) == self._submission
                else None
            )


def _price(line: PreparedLine) -> PricedLine:
    return PricedLine.from_check(line.line, line.admission.fingerprint, line.admission.price_ceiling_usd)


def _identify(line: PreparedLine) -> RunIdentity:
    return RunIdentity(
        run_id=line.run_id,
        tenant=line.admission.tenant,
        request_id=line.admission.request_id,
        workflow_id=line.run_id,
        fingerprint=line.admission.fingerprint,
        operation=line.request.operation,
        requested_model=line.request.model,
    )


def _refuse(line: int, kind: str, message: str) -> UnbilledEnd:
    return UnbilledEnd(line=line, state="failed", error_type=kind, error_message=message)
